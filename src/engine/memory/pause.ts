import { CryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import { announce, requireRow } from '../boxes/rows.js';
import { endMachine } from '../boxes/stop.js';
import type { EngineContext } from '../context.js';
import { writesVolumes } from '../volumes/rules.js';
import { captureMachine } from './capture.js';

/** A disk of the host takes megabytes a second at least, and a guest's memory is what it has to write. */
const syncTimeoutMs = 60_000;

/**
 * Writes memory, devices and disks of a running box as layers, in one commit, and ends its machine. Called under the
 * box's lock. When it fails the box goes on. Throws `machine_failed`, `disk_full`, `storage_error`, `timeout`.
 */
export async function pauseBox(ctx: EngineContext, row: BoxRow): Promise<void> {
  const live = ctx.live.get(row.id);
  if (!live) throw new CryoboxError('machine_failed', `box ${row.id} has lost its machine`);
  await ctx.flattener.makeRoom(row);
  const current = await requireRow(ctx.db, row.id);
  // Its volumes are not part of its memory: without it they keep what was written until now.
  if (writesVolumes(row)) await live.agent.system.sync({ timeoutMs: syncTimeoutMs });
  const captured = await captureMachine(ctx, current, live, { goOn: false });
  try {
    await ctx.commits.run(async (tx) => {
      await captured.apply(tx);
      await tx
        .updateTable('boxes')
        .set({ status: 'paused', memory_id: captured.memory.id, failure: null, updated_at: Date.now() })
        .where('id', '=', row.id)
        .execute();
    });
  } catch (error) {
    await captured.discard();
    await live.machine.run();
    throw error;
  }
  announce(ctx, row, 'paused');
  await endMachine(ctx, live);
  await captured.seal();
  ctx.merger.consider(captured.memory.id);
}
