import type { DiskLimits } from '../../api/index.js';
import type { BoxRow } from '../../store/index.js';
import { keepLimits } from '../machines/disk-limits.js';
import { announce, configOf, updateBox } from '../record/rows.js';
import type { EngineContext } from './context.js';

/** Gives a box other limits of its disks, which were checked. Throws `machine_failed`. */
export async function limitDisk(ctx: EngineContext, row: BoxRow, diskLimits: DiskLimits): Promise<void> {
  const config = configOf(row);
  // First what the box is to have: an engine that takes its machine over goes by that.
  await updateBox(ctx, row.id, { config: JSON.stringify({ ...config, diskLimits }) });
  const live = ctx.live.get(row.id);
  if (live) await keepLimits(live.machine, diskLimits);
  announce(ctx, row, 'limited');
}
