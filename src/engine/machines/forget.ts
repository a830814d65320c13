import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../errors.js';
import { deleteMachine } from '../../store/index.js';
import type { MachinesContext } from './context.js';
import type { LiveBox } from './live.js';
import { dropLastHeads, recordLastHeads } from './reconcile.js';

/** Where a box's last console is kept when its machine is gone. */
export function consolePath(ctx: MachinesContext, boxId: string): string {
  return join(ctx.paths.boxes, boxId, 'console.log');
}

/** Waits between tries to remove what an ended machine left; the next engine removes the rest. */
const retryMs = [200, 1_000, 5_000, 30_000, 60_000];

/**
 * Records what became of a box whose machine has ended, and takes the machine off it. `last`: what becomes of what it wrote
 * last, where that is not recorded yet. When it cannot be recorded the box keeps the machine: its end still has to be
 * recorded. Throws what `record` throws, and what the database and the host refuse.
 */
export async function takeOff(
  ctx: MachinesContext,
  live: LiveBox,
  last: 'keep' | 'drop',
  record: () => Promise<void>,
): Promise<void> {
  // Before the record: whoever hears of it finds no machine.
  ctx.live.delete(live);
  try {
    if (last === 'keep') await recordLastHeads(ctx, live);
    await record();
  } catch (error) {
    ctx.live.set(live);
    throw error;
  }
  if (last === 'drop') {
    await dropLastHeads(ctx, live).catch((error: unknown) => warn(ctx, live, error));
  }
  await dropMachine(ctx, live);
}

/**
 * Removes what a machine that has ended leaves behind. What cannot be removed now is removed later: it concerns nobody who
 * uses the box.
 */
async function dropMachine(ctx: MachinesContext, live: LiveBox): Promise<void> {
  try {
    await forgetMachine(ctx, live);
  } catch (error) {
    warn(ctx, live, error);
    forgetLater(ctx, live).catch((error: unknown) => warn(ctx, live, error));
  }
}

async function forgetLater(ctx: MachinesContext, live: LiveBox): Promise<void> {
  for (const ms of retryMs) {
    await delay(ms, undefined, { ref: false });
    if (ctx.closing.signal.aborted) return;
    try {
      return await forgetMachine(ctx, live);
    } catch (error) {
      warn(ctx, live, error);
    }
  }
}

function warn(ctx: MachinesContext, { boxId, machineId }: LiveBox, error: unknown): void {
  const facts = { box: boxId, machine: machineId, reason: messageOf(error) };
  ctx.logger.warn('cannot remove what an ended machine left', facts);
}

async function forgetMachine(ctx: MachinesContext, live: LiveBox): Promise<void> {
  await live.machine.release();
  await deleteMachine(ctx.db, live.machineId);
}

/** Keeps the last output on a machine's console with its box, as well as that can be done. Never fails. */
export async function keepConsole(ctx: MachinesContext, live: LiveBox): Promise<void> {
  const path = consolePath(ctx, live.boxId);
  try {
    await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
    await live.machine.console.save(path);
  } catch (error) {
    ctx.logger.warn('cannot keep a console', { box: live.boxId, reason: messageOf(error) });
  }
}
