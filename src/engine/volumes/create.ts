import { boxLimits } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { buildEmptyDisk } from '../../image/index.js';
import { type Database, hold, isUniqueViolation, type VolumeRow } from '../../store/index.js';
import { checkInteger } from '../boxes/validate.js';
import type { EngineContext } from '../context.js';
import { tell } from '../events.js';
import { checkVolumeName } from './check.js';

const bytesPerGb = 1024 ** 3;

/** What a new volume is made of. */
export interface VolumeOptions {
  readonly name?: string;
  readonly sizeGb?: number;
  readonly signal?: AbortSignal;
}

/** The volume of a tenant with that name or id. */
export async function findVolume(
  db: Database,
  tenant: string,
  nameOrId: string,
): Promise<VolumeRow | undefined> {
  return await db
    .selectFrom('volumes')
    .selectAll()
    .where('tenant', '=', tenant)
    .where((q) => q.or([q('id', '=', nameOrId), q('name', '=', nameOrId)]))
    .executeTakeFirst();
}

/**
 * Makes an empty volume. Its file is whole and durable before the one commit that makes it true. Throws
 * `invalid_argument`, `already_exists`, `disk_full`, `cancelled`.
 */
export async function createVolume(
  ctx: EngineContext,
  tenant: string,
  options: VolumeOptions,
): Promise<VolumeRow> {
  const { sizeGb = boxLimits.volumeSizeGb.default, signal } = options;
  const id = newId('vol');
  const { name = id } = options;
  if (options.name !== undefined) checkVolumeName(name);
  checkInteger('sizeGb', sizeGb, boxLimits.volumeSizeGb.min, boxLimits.volumeSizeGb.max);
  if (await findVolume(ctx.db, tenant, name)) throw nameTaken(name);
  const size_bytes = sizeGb * bytesPerGb;
  const layer = ctx.layers.newRow({
    kind: 'raw',
    parent_id: null,
    state: 'head',
    virtual_bytes: size_bytes,
  });
  const row: VolumeRow = { id, tenant, name, created_at: Date.now(), layer_id: layer.id, size_bytes };
  try {
    await buildEmptyDisk({ path: ctx.layers.path(layer.id), sizeBytes: size_bytes, identity: id });
    await ctx.layers.sync([layer.id]);
    const size = await ctx.layers.seal(layer.id);
    throwIfCancelled(signal, 'making a volume');
    await ctx.commits.run(async (tx) => {
      await tx
        .insertInto('layers')
        .values({ ...layer, size_bytes: size })
        .execute();
      await tx.insertInto('volumes').values(row).execute();
      await hold(tx, `volume:${id}`, [layer.id]);
    });
  } catch (error) {
    await ctx.layers.remove(layer.id);
    throw isUniqueViolation(error) ? nameTaken(name) : error;
  }
  tell(ctx, { tenant, kind: 'volume', id, change: 'created' });
  return row;
}

function nameTaken(name: string): CryoboxError {
  return new CryoboxError('already_exists', `a volume with the name "${name}" exists already`, {
    details: { name },
  });
}
