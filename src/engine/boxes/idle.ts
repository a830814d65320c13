import { mainExecution } from '../../api/index.js';
import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import { findBox } from '../../store/index.js';
import type { LiveBox } from '../machines/live.js';
import { underLock } from '../machines/locked.js';
import { removeBox, stopBox } from '../machines/stop.js';
import { pauseBox } from '../states/pause.js';
import { syncDisks } from '../states/sync.js';
import type { EngineContext } from './context.js';

/** A guest answers in milliseconds; one that does not for so long is asked again later. */
const askTimeoutMs = 10_000;
/** A guest that did not answer so often in a row serves nobody, and counts as unused. */
const maxUnanswered = 3;

/** How often in a row the guest of a machine did not say what runs in it. */
const unanswered = new WeakMap<LiveBox, number>();

/**
 * Stops, pauses or removes a box that nobody used for as long as its owner said. Everything is asked again under the box's
 * lock, the guest included: somebody may have come meanwhile, and commands run in it that this engine does not know of.
 * Throws what the stop, pause or removal throws, and `timeout` when the guest does not answer.
 */
export async function endIdleBox(ctx: EngineContext, boxId: string): Promise<void> {
  await underLock(ctx, boxId, async () => {
    const row = await findBox(ctx.db, boxId);
    if (!row) return ctx.activity.forget(boxId);
    const live = ctx.live.get(boxId);
    if (live && ctx.activity.due(boxId) !== undefined) {
      const usedAt = await lastUseInside(live);
      if (usedAt !== undefined) ctx.activity.used(boxId, usedAt);
    }
    const action = ctx.activity.due(boxId);
    if (action === 'pause' && live) {
      // Whoever comes from now on waits, and resumes the box.
      live.gate.close();
      await syncDisks(ctx, live, row);
      await pauseBox(ctx, row);
    } else if (action === 'stop' && live) await stopBox(ctx, row);
    else if (action === 'remove') await removeBox(ctx, row);
  });
}

/** When a command last ran inside, in milliseconds since 1970: now, if one does; undefined when there was none. */
async function lastUseInside(live: LiveBox): Promise<number | undefined> {
  try {
    const listed = await live.agent.executions.list({ timeoutMs: askTimeoutMs });
    // The main command runs always: that nobody uses the box is what is asked.
    const all = listed.filter(({ exec }) => exec !== mainExecution);
    unanswered.delete(live);
    if (all.some(({ state }) => state === 'running')) return Date.now();
    const ends = all.map(({ startedAtUnixMs, durationMs }) => startedAtUnixMs + (durationMs ?? 0));
    return ends.length === 0 ? undefined : Math.max(...ends);
  } catch (error) {
    // Nothing can be run over a connection that is gone.
    if (!isCryoboxError(error, 'timeout')) return undefined;
    const count = (unanswered.get(live) ?? 0) + 1;
    unanswered.set(live, count);
    if (count >= maxUnanswered) return undefined;
    throw new CryoboxError('timeout', `the guest does not say what runs in it: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
