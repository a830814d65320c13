import { boxLimits } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { buildEmptyDisk } from '../../formats/ext4/index.js';
import { findOwned, insertVolume, isUniqueViolation, type VolumeRow } from '../../store/index.js';
import { tell } from '../core/events.js';
import { checkInteger } from '../record/integers.js';
import { checkVolumeName } from '../record/volume-mounts.js';
import type { VolumesContext } from './context.js';

const bytesPerGb = 1024 ** 3;

/** What a new volume is made of. */
export interface VolumeOptions {
  readonly name?: string;
  readonly sizeGb?: number;
  readonly signal?: AbortSignal;
}

/**
 * Makes an empty volume. Its file is whole and durable before the one commit that makes it true. Throws
 * `invalid_argument`, `already_exists`, `resource_exhausted`, `disk_full`, `cancelled`.
 */
export async function createVolume(
  ctx: VolumesContext,
  tenant: string,
  options: VolumeOptions,
): Promise<VolumeRow> {
  const { sizeGb = boxLimits.volumeSizeGb.default, signal } = options;
  const id = newId('vol');
  const { name = id } = options;
  if (options.name !== undefined) checkVolumeName(name);
  checkInteger('sizeGb', sizeGb, boxLimits.volumeSizeGb.min, boxLimits.volumeSizeGb.max);
  if (await findOwned(ctx.db, 'volumes', tenant, name)) throw nameTaken(name);
  await ctx.limits.admit(ctx.db, tenant, { diskGb: sizeGb });
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
      await ctx.limits.admit(tx, tenant, { diskGb: sizeGb });
      await insertVolume(tx, row, { ...layer, size_bytes: size });
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
