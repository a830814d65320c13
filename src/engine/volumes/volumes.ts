import type { CallOptions, VolumeInfo, Volumes } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError } from '../../errors.js';
import {
  boxesWithVolume,
  boxIdsWithVolume,
  type Database,
  deleteVolume,
  findOwned,
  listOwned,
  type VolumeRow,
} from '../../store/index.js';
import { tell } from '../core/events.js';
import { volumeGone } from './attachments.js';
import type { VolumesContext } from './context.js';
import { createVolume, type VolumeOptions } from './create.js';

/** Boxes that an error names; there may be many. */
const namedBoxes = 5;

/** The volumes of one tenant. */
export class EngineVolumes implements Volumes {
  readonly #ctx: VolumesContext;
  readonly #tenant: string;

  constructor(ctx: VolumesContext, tenant: string) {
    this.#ctx = ctx;
    this.#tenant = tenant;
  }

  async create(options: VolumeOptions = {}): Promise<VolumeInfo> {
    return await infoOf(this.#ctx, await createVolume(this.#ctx, this.#tenant, options));
  }

  async list({ signal }: CallOptions = {}): Promise<VolumeInfo[]> {
    throwIfCancelled(signal, 'the listing of volumes');
    const rows = await listOwned(this.#ctx.db, 'volumes', this.#tenant);
    return await Promise.all(rows.map((row) => infoOf(this.#ctx, row)));
  }

  async get(nameOrId: string, { signal }: CallOptions = {}): Promise<VolumeInfo | null> {
    throwIfCancelled(signal, 'the look-up of a volume');
    const row = await findOwned(this.#ctx.db, 'volumes', this.#tenant, nameOrId);
    return row ? await infoOf(this.#ctx, row) : null;
  }

  async remove(nameOrId: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    throwIfCancelled(options.signal, 'the removal of a volume');
    const ctx = this.#ctx;
    const row = await findOwned(ctx.db, 'volumes', this.#tenant, nameOrId);
    if (!row) {
      if (options.force) return;
      throw volumeGone(nameOrId);
    }
    await ctx.commits.run(async (tx) => {
      await refuseInUse(tx, row);
      await deleteVolume(tx, row.id);
    });
    tell(ctx, { tenant: row.tenant, kind: 'volume', id: row.id, change: 'removed' });
    ctx.gc.soon();
  }
}

async function refuseInUse(tx: Database, { id, name }: VolumeRow): Promise<void> {
  const boxes = await boxesWithVolume(tx, id, namedBoxes);
  if (boxes.length === 0) return;
  const list = boxes.map((box) => `${box.name ?? box.id} (${box.status})`).join(', ');
  throw new CryoboxError('invalid_state', `cannot remove volume "${name}" while boxes have it: ${list}`, {
    hint: 'Remove the boxes first.',
    details: { volume: id, boxes: boxes.map((box) => box.id) },
  });
}

async function infoOf(ctx: VolumesContext, row: VolumeRow): Promise<VolumeInfo> {
  return {
    id: row.id,
    name: row.name,
    createdAt: new Date(row.created_at),
    sizeBytes: row.size_bytes,
    usedBytes: await ctx.layers.allocatedBytes(row.layer_id),
    boxes: await boxIdsWithVolume(ctx.db, row.id),
  };
}
