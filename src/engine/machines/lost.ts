import { messageOf } from '../../errors.js';
import { killProcess } from '../../machine/index.js';
import { changeBox } from '../../store/index.js';
import { requireMemory } from '../layers/memories.js';
import { announce, requireRow } from '../record/rows.js';
import { undecidedFailure } from '../record/undecided.js';
import type { MachinesContext } from './context.js';
import type { LiveBox } from './live.js';

/**
 * Ends a machine that will never get the rest of its memory: as after any end of a machine, its box is `paused` again,
 * with the disks it wrote.
 */
export async function pagerLost(ctx: MachinesContext, live: LiveBox, reason: string): Promise<void> {
  // Somebody else ends it already, or it has ended by itself: then it is that which counts.
  if (ctx.closing.signal.aborted || ctx.live.get(live.boxId) !== live || live.leaves !== undefined) return;
  if (!(await live.machine.isAlive())) return;
  ctx.logger.warn('a machine lost its page server', { box: live.boxId, reason });
  live.memoryLost = reason;
  try {
    await killProcess(live.machine.process);
  } catch (error) {
    ctx.logger.error('cannot end a machine without memory', { box: live.boxId, reason: messageOf(error) });
  }
}

/**
 * Makes a box whose machine is gone paused again. Its heads stay what the machine wrote last: whoever it belongs to decides
 * whether they count or the memory.
 */
export async function repause(
  ctx: MachinesContext,
  boxId: string,
  memoryId: string,
  reason: string,
): Promise<void> {
  const row = await requireRow(ctx.db, boxId);
  if (row.status !== 'running') return;
  await requireMemory(ctx.db, memoryId);
  await ctx.commits.run((tx) =>
    changeBox(tx, boxId, {
      status: 'paused',
      memory_id: memoryId,
      failure: undecidedFailure(reason),
      updated_at: Date.now(),
    }),
  );
  announce(ctx, row, 'paused');
}
