import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { wrapHostError } from '../../errors.js';
import { endProcess, hostBootId } from '../../machine/index.js';
import { deleteMachine, machinesOfBox } from '../../store/index.js';
import type { MachinesContext } from './context.js';

/**
 * Sees to it that no machine which a box had before still lives: two machines on one disk would destroy it. Called before
 * a box gets a machine, under its lock; their directories go as well. Throws `machine_failed` when one does not end,
 * `storage_error` when its directory stays.
 */
export async function endFormerMachines(ctx: MachinesContext, boxId: string): Promise<void> {
  const rows = await machinesOfBox(ctx.db, boxId);
  if (rows.length === 0) return;
  const thisBoot = await hostBootId();
  for (const row of rows) {
    if (row.host_boot === thisBoot) await endProcess({ pid: row.pid, startTicks: row.start_ticks });
    await removeLeft(join(ctx.paths.machines, row.id));
    await deleteMachine(ctx.db, row.id);
  }
}

async function removeLeft(directory: string): Promise<void> {
  try {
    await rm(directory, { recursive: true, force: true });
  } catch (error) {
    throw wrapHostError(error, 'removing what a former machine left');
  }
}
