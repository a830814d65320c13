import type { ProcessIdentity } from '../../machine/index.js';
import type { MachineRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import type { LiveBox, Pager } from '../live.js';
import { pagerLost } from './lost.js';
import { hasSupplied, pagerState } from './pager-process.js';

/** How often a page server is looked at that another engine started: its end is not told to this process. */
const lookMs = 1_000;

/** The page server that an earlier engine gave a machine, if any. */
export function pagerOf({ pager_pid, pager_ticks }: MachineRow): ProcessIdentity | undefined {
  return pager_pid === null || pager_ticks === null ? undefined : { pid: pager_pid, startTicks: pager_ticks };
}

/** A page server that another engine started: it knows what to do. */
export function adoptedPager(ctx: EngineContext, boxId: string, process: ProcessIdentity): Pager {
  const outcome = (): Promise<boolean> => hasSupplied(ctx, boxId, process);
  return { settle: () => undefined, end: async () => void (await outcome()), hasSupplied: outcome };
}

/** Watches the page server of a machine that was taken over, until it has done its work. */
export function watchPager(ctx: EngineContext, live: LiveBox, process: ProcessIdentity): void {
  const look = async (): Promise<void> => {
    if (ctx.closing.signal.aborted || ctx.live.get(live.boxId) !== live) return;
    const state = await pagerState(ctx, live.boxId, process);
    if (state === 'alive') setTimeout(() => void look(), lookMs).unref();
    if (state === 'lost') await pagerLost(ctx, live, 'the page server ended');
  };
  void look();
}
