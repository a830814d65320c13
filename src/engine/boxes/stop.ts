import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { faultPoint } from '../../base/faults.js';
import type { BoxRow } from '../../store/index.js';
import { release } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';

import { writesVolumes } from '../volumes/rules.js';

import { forgetMachine } from './forget.js';
import { announce, updateBox } from './rows.js';

/** Time a guest gets to end its processes and write its disks. */
export const stopTimeoutMs = 10_000;
/** What of it processes get: the rest is for killing those that go on, and for writing the disks. */
const graceShare = 0.7;

/** Ends a box's processes in order, then its machine; a guest that does not end in time is cut off. */
export async function stopBox(ctx: EngineContext, row: BoxRow, timeoutMs = stopTimeoutMs): Promise<void> {
  const live = ctx.live.get(row.id);
  if (live) {
    await updateBox(ctx, row.id, { status: 'stopping' });
    await powerOff(live, { graceMs: timeoutMs * graceShare, timeoutMs });
    await endMachine(ctx, live);
    ctx.counters.add(row.tenant, 'boxesStoppedTotal');
  }
  // The memory of a paused box goes with its processes.
  await updateBox(ctx, row.id, { status: 'stopped', memory_id: null, failure: null });
  if (row.memory_id !== null) ctx.gc.soon();
}

async function powerOff(
  live: LiveBox,
  { graceMs, timeoutMs }: { readonly graceMs: number; readonly timeoutMs: number },
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  // The agent has no chance to answer: the machine ends.
  live.agent.system.powerOff({ timeoutMs: Math.round(graceMs) }).catch(() => undefined);
  await Promise.race([live.machine.exited, late]);
  clearTimeout(timer);
}

/** Ends a machine at once. Its disks stay as they are. */
export async function endMachine(ctx: EngineContext, live: LiveBox): Promise<void> {
  ctx.live.delete(live);
  live.agent.close();
  await live.machine.kill();
  await live.memory.pager?.end();
  await forgetMachine(ctx, live);
}

/** Removes a box: its row and what it holds go in one commit, the files afterwards. */
export async function removeBox(ctx: EngineContext, row: BoxRow): Promise<void> {
  const live = ctx.live.get(row.id);
  if (live) {
    // What it wrote to its volumes outlives it.
    if (writesVolumes(row)) await powerOff(live, { graceMs: 0, timeoutMs: stopTimeoutMs });
    await endMachine(ctx, live);
  }
  await ctx.commits.run(async (tx) => {
    await release(tx, `box:${row.id}`);
    const snapshots = await tx.selectFrom('snapshots').select('id').where('box_id', '=', row.id).execute();
    for (const { id } of snapshots) await release(tx, `snapshot:${id}`);
    await tx.deleteFrom('boxes').where('id', '=', row.id).execute();
  });
  faultPoint('box.remove:before');
  await rm(join(ctx.paths.boxes, row.id), { recursive: true, force: true });
  faultPoint('box.remove:after');
  announce(ctx, row, 'removed');
  ctx.gc.soon();
}
