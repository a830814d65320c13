import { abortable, throwIfCancelled } from '../../base/abort.js';
import { CryoboxError } from '../../errors.js';
import { type BoxRow, changeBox } from '../../store/index.js';
import type { MachinesContext } from '../machines/context.js';
import { withoutLimits } from '../machines/disk-limits.js';
import type { LiveBox } from '../machines/live.js';
import { keepMainOutput } from '../machines/main.js';
import { endMachine } from '../machines/stop.js';
import { announce, requireRow } from '../record/rows.js';
import { writesVolumes } from '../volumes/rules.js';
import { captureMachine } from './memory-capture.js';

/** A disk of the host takes megabytes a second at least, and a guest's memory is what it has to write. */
const syncTimeoutMs = 60_000;

/**
 * Writes memory, devices and disks of a running box as layers, in one commit, and ends its machine. Called under the
 * box's lock. When it fails the box goes on. Throws `machine_failed`, `disk_full`, `storage_error`, `timeout`,
 * `cancelled` when the signal is raised before its memory is kept.
 */
export async function pauseBox(ctx: MachinesContext, row: BoxRow, signal?: AbortSignal): Promise<void> {
  const live = ctx.live.get(row.id);
  if (!live) throw new CryoboxError('machine_failed', `box ${row.id} has lost its machine`);
  // Who comes from now on waits, and resumes the box; what has just begun comes to its end.
  live.gate.close();
  try {
    await abortable(live.gate.settled(), signal);
    throwIfCancelled(signal, 'the pause of a box');
    await pauseMachine(ctx, row, live, signal);
  } catch (error) {
    // Not when the machine has ended meanwhile: that closes it for good.
    if (live.leaves === undefined) live.gate.open();
    throw error;
  }
}

async function pauseMachine(
  ctx: MachinesContext,
  row: BoxRow,
  live: LiveBox,
  signal: AbortSignal | undefined,
): Promise<void> {
  await ctx.flattener.makeRoom(row);
  const current = await requireRow(ctx.db, row.id);
  // Its volumes are not part of its memory: without it they keep what was written until now.
  if (writesVolumes(row)) {
    const sync = (): Promise<unknown> => live.agent.system.sync({ timeoutMs: syncTimeoutMs });
    await withoutLimits(ctx, live, row, sync);
  }
  await keepMainOutput(ctx, live);
  const captured = await captureMachine(ctx, current, live, { goOn: false });
  try {
    throwIfCancelled(signal, 'the pause of a box');
    await ctx.commits.run(async (tx) => {
      await captured.apply(tx);
      const changes = { status: 'paused', memory_id: captured.memory.id, failure: null };
      await changeBox(tx, row.id, { ...changes, updated_at: Date.now() });
    });
  } catch (error) {
    await captured.discard();
    await live.machine.run();
    throw error;
  }
  announce(ctx, row, 'paused');
  await endMachine(ctx, live, 'paused');
  await captured.seal();
  ctx.merger.consider(captured.memory.id);
}
