import type { CallOptions, VolumeInfo, Volumes } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { type Database, release, type VolumeRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { tell } from '../events.js';
import { volumeGone } from './attachments.js';
import { createVolume, findVolume, type VolumeOptions } from './create.js';

/** Boxes that an error names; there may be many. */
const namedBoxes = 5;

/** The volumes of one tenant. */
export class EngineVolumes implements Volumes {
  readonly #ctx: EngineContext;
  readonly #tenant: string;

  constructor(ctx: EngineContext, tenant: string) {
    this.#ctx = ctx;
    this.#tenant = tenant;
  }

  async create(options: VolumeOptions = {}): Promise<VolumeInfo> {
    return await infoOf(this.#ctx, await createVolume(this.#ctx, this.#tenant, options));
  }

  async list(): Promise<VolumeInfo[]> {
    const rows = await this.#ctx.db
      .selectFrom('volumes')
      .selectAll()
      .where('tenant', '=', this.#tenant)
      .orderBy('created_at')
      .orderBy('id')
      .execute();
    return await Promise.all(rows.map((row) => infoOf(this.#ctx, row)));
  }

  async get(nameOrId: string): Promise<VolumeInfo | null> {
    const row = await findVolume(this.#ctx.db, this.#tenant, nameOrId);
    return row ? await infoOf(this.#ctx, row) : null;
  }

  async remove(nameOrId: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const ctx = this.#ctx;
    const row = await findVolume(ctx.db, this.#tenant, nameOrId);
    if (!row) {
      if (options.force) return;
      throw volumeGone(nameOrId);
    }
    await ctx.commits.run(async (tx) => {
      await refuseInUse(tx, row);
      await tx.deleteFrom('volumes').where('id', '=', row.id).execute();
      await release(tx, `volume:${row.id}`);
    });
    tell(ctx, { tenant: row.tenant, kind: 'volume', id: row.id, change: 'removed' });
    ctx.gc.soon();
  }
}

async function refuseInUse(tx: Database, { id, name }: VolumeRow): Promise<void> {
  const boxes = await tx
    .selectFrom('box_volumes')
    .innerJoin('boxes', 'boxes.id', 'box_volumes.box_id')
    .select(['boxes.id', 'boxes.name', 'boxes.status'])
    .where('box_volumes.volume_id', '=', id)
    .limit(namedBoxes)
    .execute();
  if (boxes.length === 0) return;
  const list = boxes.map((box) => `${box.name ?? box.id} (${box.status})`).join(', ');
  throw new CryoboxError('invalid_state', `cannot remove volume "${name}" while boxes have it: ${list}`, {
    hint: 'Remove the boxes first.',
    details: { volume: id, boxes: boxes.map((box) => box.id) },
  });
}

async function infoOf(ctx: EngineContext, row: VolumeRow): Promise<VolumeInfo> {
  const boxes = await ctx.db
    .selectFrom('box_volumes')
    .select('box_id')
    .where('volume_id', '=', row.id)
    .orderBy('box_id')
    .execute();
  return {
    id: row.id,
    name: row.name,
    createdAt: new Date(row.created_at),
    sizeBytes: row.size_bytes,
    usedBytes: await ctx.layers.allocatedBytes(row.layer_id),
    boxes: boxes.map(({ box_id }) => box_id),
  };
}
