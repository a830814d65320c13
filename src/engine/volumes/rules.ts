import { CryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import { configOf } from '../record/rows.js';

/** Whether a box has a volume that it may write. */
export function writesVolumes(box: BoxRow): boolean {
  return configOf(box).volumes.some(({ readOnly }) => readOnly !== true);
}

/** Which volumes a box may have whose memory is to become another's, or is to be gone back to. */
export type VolumesAllowed = 'none' | 'read-only';

/**
 * Throws `invalid_state`, naming the volume, when a box has volumes that its memory must not have mounted: what is not
 * part of the memory would change under it.
 */
export function refuseVolumes(box: BoxRow, what: string, allowed: VolumesAllowed): void {
  const bad = configOf(box).volumes.find(({ readOnly }) => allowed === 'none' || readOnly !== true);
  if (!bad) return;
  const how = bad.readOnly === true ? '' : ' read-write';
  const why = `cannot ${what} a box that has volume "${bad.volume}" mounted${how}`;
  throw new CryoboxError('invalid_state', why, {
    hint:
      allowed === 'none'
        ? 'Use a box without volumes; a box made from a template can have its own.'
        : 'Mount the volume read-only, or use the disks of the box only: clone it, or take a snapshot without memory.',
    details: { box: box.id, volume: bad.volume },
  });
}
