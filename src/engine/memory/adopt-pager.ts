import { isAlive, type ProcessIdentity } from '../../machine/index.js';
import { readPageServerLog } from '../../memory/index.js';
import type { MachineRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { pagerLogPath } from './lazy.js';
import { pagerLost } from './lost.js';

/** How often a page server is looked at that another engine started: its end is not told to this process. */
const lookMs = 1_000;

function processOf({ pager_pid, pager_ticks }: MachineRow): ProcessIdentity | undefined {
  return pager_pid === null || pager_ticks === null ? undefined : { pid: pager_pid, startTicks: pager_ticks };
}

/** What became of the page server of a machine that an earlier engine left; `none` when nothing needs one any more. */
export async function pagerState(
  ctx: EngineContext,
  row: MachineRow,
  boxId: string,
): Promise<'none' | 'alive' | 'lost'> {
  const process = processOf(row);
  if (!process) return 'none';
  if (await isAlive(process)) return 'alive';
  const events = await readPageServerLog(pagerLogPath(ctx, boxId));
  return events.some(({ event }) => event === 'done') ? 'none' : 'lost';
}

/** Watches the page server of a machine that was taken over, until it has done its work. */
export function watchPager(ctx: EngineContext, live: LiveBox, row: MachineRow): void {
  const look = async (): Promise<void> => {
    if (ctx.closing.signal.aborted || ctx.live.get(live.boxId) !== live) return;
    const state = await pagerState(ctx, row, live.boxId);
    if (state === 'alive') setTimeout(() => void look(), lookMs).unref();
    if (state === 'lost') await pagerLost(ctx, live, 'the page server ended');
  };
  void look();
}
