import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, killProcess, type ProcessIdentity } from '../../machine/index.js';
import { readPageServerLog } from '../../memory/index.js';
import type { MachinesContext } from './context.js';

/** A page server ends as soon as its machine's socket is closed. */
const endTimeoutMs = 5_000;
const lookMs = 20;

/** Where the page server of a box writes what happens; the machine cannot reach it. */
export function pagerLogPath(ctx: MachinesContext, boxId: string): string {
  return join(ctx.paths.boxes, boxId, 'pager.log');
}

/** What became of a page server that supplies the machine of a box. */
export async function pagerState(
  ctx: MachinesContext,
  boxId: string,
  process: ProcessIdentity,
): Promise<'alive' | 'done' | 'lost'> {
  if (await isAlive(process)) return 'alive';
  return (await saidDone(ctx, boxId)) ? 'done' : 'lost';
}

/** Whether the last page server of a box has written down that the machine had all of its memory. */
export async function saidDone(ctx: MachinesContext, boxId: string): Promise<boolean> {
  const events = await readPageServerLog(pagerLogPath(ctx, boxId));
  return events.some(({ event }) => event === 'done');
}

/** Whether a machine that has ended had got all its memory from its page server, which is gone then. */
export async function hasSupplied(
  ctx: MachinesContext,
  boxId: string,
  process: ProcessIdentity,
): Promise<boolean> {
  const until = performance.now() + endTimeoutMs;
  for (;;) {
    const state = await pagerState(ctx, boxId, process);
    if (state !== 'alive') return state === 'done';
    if (performance.now() > until) await killProcess(process);
    else await sleep(lookMs);
  }
}
