import { setTimeout as delay } from 'node:timers/promises';
import { inBackground } from '../../base/in-background.js';
import { within } from '../../base/within.js';
import { messageOf } from '../../errors.js';
import { endProcess, killProcess } from '../../machine/index.js';
import { findBox } from '../../store/index.js';
import { updateBox } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import { watchDisks } from './disk-room.js';
import { keepConsole, takeOff } from './forget.js';
import { type LiveBox, leave } from './live.js';
import { repause } from './lost.js';

/** Lines of the console that a failure carries. */
const consoleLines = 20;
/** What the kernel says first of a panic (Linux: kernel/panic.c), and how much of the console it may lie before the end. */
const panicLine = /Kernel panic - not syncing: .*/;
const panicBytes = 16 * 1024;
/** An end that cannot be recorded is tried again after 0.2 s, then twice as long each time. */
const firstRetryMs = 200;
const maxRetryMs = 30_000;

/**
 * Notices when a machine ends that nobody ended: the box becomes `stopped` when the guest powered off, halted or
 * restarted, `paused` with the disks it wrote when it did not yet have all of the memory it was resumed from, else `failed`.
 */
export function watchMachine(ctx: MachinesContext, live: LiveBox): void {
  watchDisks(ctx, live);
  live.machine.qmp.onEvent(({ event, data }) => {
    if (event !== 'SHUTDOWN' || data.guest !== true) return;
    live.poweredOff ??= data.reason === 'guest-shutdown';
    live.wasReset = data.reason === 'guest-reset';
  });
  watchHalt(ctx, live);
  inBackground(
    live.machine.exited.then(() => machineEnded(ctx, live)),
    `record the end of the machine of box ${live.boxId}`,
    ctx.logger,
  );
}

/** What the kernel says last before a halt and a restart in order (Linux: kernel/reboot.c). */
const haltedLine = 'reboot: System halted';
const restartLine = 'reboot: Restarting system';
/** A guest that answers within this time has only written the line. */
const haltProbeMs = 2000;

/** A guest that halts leaves a machine that does nothing for ever: it is ended, as after a power-off. */
function watchHalt(ctx: MachinesContext, live: LiveBox): void {
  let isProbing = false;
  live.machine.console.onTail((tail) => {
    if (isProbing || !tail.includes(haltedLine)) return;
    isProbing = true;
    const probe = async (): Promise<void> => {
      try {
        // With the lock nobody else lets the machine stand still meanwhile.
        await ctx.boxLocks.run(live.boxId, () => endHalted(ctx, live));
      } finally {
        isProbing = false;
      }
    };
    inBackground(probe(), `end the halted machine of box ${live.boxId}`, ctx.logger);
  });
}

async function endHalted(ctx: MachinesContext, live: LiveBox): Promise<void> {
  const mayEnd = (): boolean =>
    !ctx.closing.signal.aborted &&
    live.leaves === undefined &&
    !live.disks.full &&
    ctx.live.get(live.boxId) === live;
  if (!mayEnd()) return;
  try {
    await live.agent.system.ping('', { timeoutMs: haltProbeMs });
  } catch {
    if (!mayEnd()) return;
    live.poweredOff = true;
    await killProcess(live.machine.process);
  }
}

/** Whether a guest restarted in order: its disks are written, and it comes up with the next start. */
function hasRestarted({ wasReset, machine }: LiveBox): boolean {
  return wasReset === true && machine.console.text().slice(-1024).includes(restartLine);
}

async function machineEnded(ctx: MachinesContext, live: LiveBox): Promise<void> {
  const isOurs = (): boolean => !ctx.closing.signal.aborted && ctx.live.get(live.boxId) === live;
  if (!isOurs()) return;
  if (live.leaves === undefined) leave(live, 'died');
  for (let waitMs = firstRetryMs; ; waitMs = Math.min(2 * waitMs, maxRetryMs)) {
    try {
      // Whoever has the lock now may be what ends it.
      await ctx.boxLocks.run(live.boxId, async () => {
        if (isOurs()) await buryMachine(ctx, live);
      });
      return;
    } catch (error) {
      const facts = { box: live.boxId, reason: messageOf(error), retryMs: waitMs };
      ctx.logger.error('cannot record the end of a machine', facts);
    }
    await delay(waitMs, undefined, { signal: ctx.closing.signal }).catch(() => undefined);
    if (!isOurs()) return;
  }
}

/** A machine that has closed its agent's connection is about to end: what asks for it waits this long for that. */
const endWaitMs = 5000;

/**
 * The machine of a box, if it has one that lives; one that has just ended, or is about to, is recorded. Called under the
 * box's lock. Throws what the database throws, and what the signal was raised with.
 */
export async function livingMachine(
  ctx: MachinesContext,
  boxId: string,
  signal?: AbortSignal,
): Promise<LiveBox | undefined> {
  const live = ctx.live.get(boxId);
  if (!live || ctx.closing.signal.aborted) return live;
  // The host closes what a killed process had open before that has ended.
  if (live.agent.hasEnded) await within(live.machine.exited, endWaitMs, signal);
  if (await live.machine.isAlive()) return live;
  await buryMachine(ctx, live);
  return undefined;
}

/**
 * Records that the machine of a box has ended, and forgets it. Called under the box's lock, with the machine that the box
 * has: so it never touches a successor. What the machine left is removed in the background, and never keeps the box from
 * having its true state. Throws what the database throws, `machine_failed` when its process goes on: until it has ended its
 * disks are its own. The box has this machine then, still.
 */
export async function buryMachine(ctx: MachinesContext, live: LiveBox): Promise<void> {
  leave(live, 'died');
  await endProcess(live.machine.process, live.machine.exited);
  await keepConsole(ctx, live);
  await takeOff(ctx, live, 'keep', () => recordEnd(ctx, live));
}

async function recordEnd(ctx: MachinesContext, live: LiveBox): Promise<void> {
  const { boxId, machine, memory } = live;
  const poweredOff = live.poweredOff === true || hasRestarted(live);
  const row = await findBox(ctx.db, boxId);
  // What ended the machine in order may have failed between its end and the record of it; else that is there already.
  if (row?.status !== 'running' && row?.status !== 'stopping') return;
  // A stop gives the memory up, also one that was refused something before its end.
  const isGivenUp = poweredOff || live.leaves !== 'died';
  const isWhole = isGivenUp || ((await memory.pager?.hasSupplied()) ?? true);
  if (!isWhole && (await putBack(ctx, live))) return;
  if (isGivenUp) {
    await updateBox(ctx, boxId, { status: 'stopped', failure: null });
    return;
  }
  const text = machine.console.text().trimEnd();
  // The trace behind it may be longer than what is shown.
  const panic = live.wasReset === true ? text.slice(-panicBytes).match(panicLine)?.[0].trim() : undefined;
  const lines = text.split('\n').slice(-consoleLines).join('\n');
  const shown = lines ? `; the console's last lines:\n${lines}` : '';
  const failure = `the machine ended unexpectedly${panic ? `: ${panic}` : ''}${shown}`;
  await updateBox(ctx, boxId, { status: 'failed', failure });
  ctx.counters.add(row.tenant, 'boxesFailedTotal');
}

/** Puts a box back to the memory that its machine never had all of. Returns whether that could be done. */
async function putBack(ctx: MachinesContext, { boxId, memory, memoryLost }: LiveBox): Promise<boolean> {
  const reason = memoryLost ?? 'the machine ended unexpectedly';
  try {
    await repause(ctx, boxId, memory.memoryId ?? '', reason);
    return true;
  } catch (error) {
    ctx.logger.error('cannot put a box back to its memory', { box: boxId, reason: messageOf(error) });
    return false;
  }
}
