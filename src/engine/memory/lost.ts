import { messageOf } from '../../errors.js';
import { holdOnly } from '../../store/index.js';
import { forgetMachine } from '../boxes/forget.js';
import { announce, requireRow } from '../boxes/rows.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { headsOf } from './heads.js';
import { requireMemory } from './rows.js';

/**
 * Ends a machine that will never get the rest of its memory, and puts its box back to `paused`, as it was when that
 * memory was taken.
 */
export async function pagerLost(ctx: EngineContext, live: LiveBox, reason: string): Promise<void> {
  // Somebody else ends it already, or it has ended by itself: then it is that which counts.
  if (ctx.closing.signal.aborted || !(await live.machine.isAlive()) || !ctx.live.delete(live)) return;
  ctx.logger.warn('a machine lost its page server', { box: live.boxId, reason });
  try {
    live.agent.close();
    await live.machine.kill();
    await ctx.boxLocks.run(live.boxId, async () => {
      if (!ctx.live.get(live.boxId)) await repause(ctx, live.boxId, live.memory.memoryId ?? '', reason);
    });
    await forgetMachine(ctx, live);
  } catch (error) {
    ctx.logger.error('cannot put a box back to its memory', { box: live.boxId, reason: messageOf(error) });
  }
}

/** Makes a box whose machine is gone paused again, on the disks of its memory. */
export async function repause(
  ctx: EngineContext,
  boxId: string,
  memoryId: string,
  reason: string,
): Promise<void> {
  const row = await requireRow(ctx.db, boxId);
  if (row.status !== 'running') return;
  const memory = await requireMemory(ctx.db, memoryId);
  const { guest, disk } = await headsOf(ctx, memory);
  await ctx.commits.run(async (tx) => {
    await tx.insertInto('layers').values([guest, disk]).execute();
    await tx
      .updateTable('boxes')
      .set({
        status: 'paused',
        memory_id: memoryId,
        guest_head: guest.id,
        disk_head: disk.id,
        failure: `${reason}; the box is as it was when it was paused`,
        updated_at: Date.now(),
      })
      .where('id', '=', boxId)
      .execute();
    await holdOnly(tx, `box:${boxId}`, [guest.id, disk.id]);
  });
  announce(ctx, row, 'paused');
  ctx.gc.soon();
}
