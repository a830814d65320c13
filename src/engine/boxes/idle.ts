import { messageOf } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { pauseBox } from '../memory/pause.js';
import { syncDisks } from '../memory/sync.js';
import { exclusively } from './locked.js';
import { requireRow } from './rows.js';
import { removeBox, stopBox } from './stop.js';

const msPerSecond = 1000;

/** Sets the deadlines of a box from what its owner asked for. */
export function armTimers(ctx: EngineContext, row: BoxRow): void {
  ctx.timers.set(row.id, {
    stopAfterMs: ctx.live.get(row.id) ? row.auto_stop * msPerSecond : 0,
    removeAfterMs: row.auto_delete * msPerSecond,
    lastActiveAt: Math.max(row.last_active_at, ctx.timers.lastActiveAt(row.id) ?? 0),
  });
}

/** Stops, pauses or removes a box that nobody used for as long as its owner said. */
export function idleBoxDue(ctx: EngineContext, boxId: string, what: 'stop' | 'remove'): void {
  idleTask(ctx, boxId, what).catch((error: unknown) => {
    ctx.logger.warn(`cannot ${what} an idle box`, { box: boxId, reason: messageOf(error) });
  });
}

async function idleTask(ctx: EngineContext, boxId: string, what: 'stop' | 'remove'): Promise<void> {
  const box = await requireRow(ctx.db, boxId);
  const pauses = what === 'stop' && box.auto_stop_action === 'pause';
  if (pauses && !ctx.live.get(boxId)) return;
  await exclusively(ctx, boxId, pauses ? 'pause' : what, async (row) => {
    if (what === 'remove') {
      ctx.timers.delete(boxId);
      await removeBox(ctx, row);
      return;
    }
    const live = ctx.live.get(boxId);
    if (!live) return;
    if (pauses) {
      await syncDisks(ctx, live);
      await pauseBox(ctx, row);
    } else await stopBox(ctx, row);
  });
}
