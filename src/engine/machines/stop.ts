import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { faultPoint } from '../../base/faults.js';
import { within } from '../../base/within.js';
import { endProcess } from '../../machine/index.js';
import { type BoxRow, type Database, deleteBox } from '../../store/index.js';
import { announce, updateBox } from '../record/rows.js';
import { writesVolumes } from '../volumes/rules.js';
import type { MachinesContext } from './context.js';
import { liftLimits } from './disk-limits.js';
import { keepConsole, takeOff } from './forget.js';
import type { LeaveReason } from './leave.js';
import { beginLeave, type LiveBox, leave } from './live.js';
import { endMain } from './main.js';

/** Time a guest gets to end its processes and write its disks. */
export const stopTimeoutMs = 10_000;
/** What of it processes get: the rest is for killing those that go on, and for writing the disks. */
const graceShare = 0.7;

/** What a guest gets for its end however long its main command took. */
const leastPowerOffMs = 2_000;

/** Ends a box's processes in order, then its machine; a guest that does not end in time is cut off. */
export async function stopBox(ctx: MachinesContext, row: BoxRow, timeoutMs = stopTimeoutMs): Promise<void> {
  const live = ctx.live.get(row.id);
  if (live) {
    await updateBox(ctx, row.id, { status: 'stopping' });
    beginLeave(live, 'stopped');
    const began = performance.now();
    await endMain(ctx, live, timeoutMs * graceShare);
    const leftMs = Math.max(timeoutMs - (performance.now() - began), Math.min(timeoutMs, leastPowerOffMs));
    await powerOff(ctx, live, row, { graceMs: leftMs * graceShare, timeoutMs: leftMs });
    await killMachine(ctx, live, 'stopped');
    ctx.counters.add(row.tenant, 'boxesStoppedTotal');
  }
  // The memory of a paused box goes with its processes.
  const record = () => updateBox(ctx, row.id, { status: 'stopped', memory_id: null, failure: null });
  if (live) await takeOff(ctx, live, 'keep', record);
  else {
    await record();
    ctx.live.endWaiting(row.id, 'stopped');
  }
  if (row.memory_id !== null) ctx.gc.soon();
}

async function powerOff(
  ctx: MachinesContext,
  live: LiveBox,
  row: BoxRow,
  { graceMs, timeoutMs }: { readonly graceMs: number; readonly timeoutMs: number },
): Promise<void> {
  await liftLimits(ctx, live, row);
  // The agent has no chance to answer: the machine ends.
  live.agent.system.powerOff({ timeoutMs: Math.round(graceMs) }).catch(() => undefined);
  await within(live.machine.exited, timeoutMs);
}

/** Ends a machine at once, and takes it off its box, whose disks are decided already. */
export async function endMachine(ctx: MachinesContext, live: LiveBox, reason: LeaveReason): Promise<void> {
  await killMachine(ctx, live, reason);
  await takeOff(ctx, live, 'drop', async () => undefined);
}

async function killMachine(ctx: MachinesContext, live: LiveBox, reason: LeaveReason): Promise<void> {
  leave(live, reason);
  // The wait keeps this program alive, which the watch of a machine does not.
  await endProcess(live.machine.process, live.machine.exited);
  await live.memory.pager?.end();
  await keepConsole(ctx, live);
}

/**
 * Removes a box: its row and what it holds go in one commit, the files afterwards. `also` is done in that commit.
 */
export async function removeBox(
  ctx: MachinesContext,
  row: BoxRow,
  also: (tx: Database) => Promise<void> = async () => undefined,
): Promise<void> {
  const remove = async (tx: Database): Promise<void> => {
    await deleteBox(tx, row.id);
    await also(tx);
  };
  const live = ctx.live.get(row.id);
  if (live) {
    beginLeave(live, 'removed');
    // What it wrote to its volumes outlives it.
    if (writesVolumes(row)) await powerOff(ctx, live, row, { graceMs: 0, timeoutMs: stopTimeoutMs });
    await killMachine(ctx, live, 'removed');
    await takeOff(ctx, live, 'drop', () => ctx.commits.run(remove));
  } else {
    await ctx.commits.run(remove);
    ctx.live.endWaiting(row.id, 'removed');
  }
  ctx.activity.forget(row.id);
  ctx.ports.drop(row.id);
  faultPoint('box.remove:before');
  await rm(join(ctx.paths.boxes, row.id), { recursive: true, force: true });
  faultPoint('box.remove:after');
  announce(ctx, row, 'removed');
  ctx.gc.soon();
}
