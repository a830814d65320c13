import { setTimeout as sleep } from 'node:timers/promises';
import { inBackground } from '../../base/in-background.js';
import type { ProcessIdentity } from '../../machine/index.js';
import type { MachineRow } from '../../store/index.js';
import type { MachinesContext } from './context.js';
import type { LiveBox, Pager } from './live.js';
import { pagerLost } from './lost.js';
import { hasSupplied, pagerState } from './pager-process.js';

/** How often a page server is looked at that another engine started: its end is not told to this process. */
const lookMs = 1_000;

/** The page server that an earlier engine gave a machine, if any. */
export function pagerOf({ pager_pid, pager_ticks }: MachineRow): ProcessIdentity | undefined {
  return pager_pid === null || pager_ticks === null ? undefined : { pid: pager_pid, startTicks: pager_ticks };
}

/** A page server that another engine started: it knows what to do. */
export function adoptedPager(ctx: MachinesContext, boxId: string, process: ProcessIdentity): Pager {
  const outcome = (): Promise<boolean> => hasSupplied(ctx, boxId, process);
  const end = async (): Promise<void> => {
    await outcome();
  };
  return { settle: () => undefined, end, hasSupplied: outcome };
}

/** Watches the page server of a machine that was taken over, until it has done its work. */
export function watchPager(ctx: MachinesContext, live: LiveBox, process: ProcessIdentity): void {
  const watch = async (): Promise<void> => {
    while (!ctx.closing.signal.aborted && ctx.live.get(live.boxId) === live) {
      // Where it cannot be looked at, for want of a descriptor, it is looked at again.
      const state = await pagerState(ctx, live.boxId, process).catch(() => 'unknown' as const);
      if (state === 'done') return;
      if (state === 'lost') return await pagerLost(ctx, live, 'the page server ended');
      await sleep(lookMs, undefined, { ref: false });
    }
  };
  inBackground(watch(), `note the end of the page server of box ${live.boxId}`, ctx.logger);
}
