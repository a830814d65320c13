import type { LifetimeOptions } from '../../api/index.js';
import { changeBox, findBox, storeRunEnd } from '../../store/index.js';
import { exclusively, underLock } from '../machines/locked.js';
import { removeBox, stopBox } from '../machines/stop.js';
import { endOfRun, lifetimeOf } from '../record/config.js';
import { configOf } from '../record/rows.js';
import { checkLifetime, checkLifetimeAction } from '../record/validate.js';
import { pauseBox } from '../states/pause.js';
import type { EngineContext } from './context.js';

/** Sets how long runs of a box last, in seconds. Throws `invalid_argument`, `not_found`, `cancelled`. */
export async function setLifetime(
  ctx: EngineContext,
  boxId: string,
  seconds: number,
  { action, extendOnly, signal }: LifetimeOptions,
): Promise<void> {
  checkLifetime('seconds', seconds);
  checkLifetimeAction('action', action);
  const set = async (row: { readonly config: string }): Promise<void> => {
    const config = configOf(row);
    const live = ctx.live.get(boxId);
    const lifetimeAction = action ?? config.lifetime?.action;
    const lifetime = lifetimeOf({ lifetime: seconds, lifetimeAction });
    const endsAt = endOfRun({ lifetime });
    if (extendOnly && live && (live.endsAt ?? Infinity) >= (endsAt ?? Infinity)) return;
    await ctx.commits.run(async (tx) => {
      await changeBox(tx, boxId, { config: JSON.stringify({ ...config, lifetime }), updated_at: Date.now() });
      if (live) await storeRunEnd(tx, boxId, endsAt);
    });
    if (!live) return;
    live.endsAt = endsAt;
    ctx.runEnds.changed(boxId);
  };
  await exclusively(ctx, boxId, 'lifetime', set, signal);
}

/**
 * Ends the run of a box whose time is over. That is asked again under the box's lock: it may have got more time, or run
 * anew. Throws what the stop, pause or removal throws.
 */
export async function endRun(ctx: EngineContext, boxId: string): Promise<void> {
  await underLock(ctx, boxId, async () => {
    const row = await findBox(ctx.db, boxId);
    const { endsAt = Infinity } = ctx.live.get(boxId) ?? {};
    if (!row || endsAt > Date.now()) return;
    const action = configOf(row).lifetime?.action;
    if (action === 'remove') await removeBox(ctx, row);
    else if (action === 'pause') await pauseBox(ctx, row);
    else await stopBox(ctx, row);
  });
}
