import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError } from '../../errors.js';
import type { Machine } from '../../machine/index.js';
import { announce, requireRow } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import type { LiveBox } from './live.js';

/** Room that a machine is continued for: it has as much to write again as its disk had requests under way. */
const enoughBytes = 16 * 1024 * 1024;
/** How long until it is tried to continue a machine, at first and at most; doubled each time. */
const tryAfterMs = { first: 1_000, most: 15_000 } as const;

/** How long a machine stands still between two tries to have it answer: each lets it run until its next write fails. */
const answerAfterMs = 20;

/** What `BoxInfo.failure` says of a box whose machine stands still because the host's disk is full. */
export const fullDiskFailure =
  'the disk of the host is full: the box stands still, and goes on by itself when there is room';

/** Throws `disk_full` when the machine of a box stands still because the host's disk is full. */
export function requireRoom(live: LiveBox): void {
  if (live.disks.full) throw diskFull(live.boxId);
}

/** What is told of a box that stands still because the host's disk is full. */
export function diskFull(boxId: string): CryoboxError {
  return new CryoboxError('disk_full', fullDiskFailure, {
    hint: 'Free space in the home, or run `cryobox gc`; nothing that was written is lost meanwhile.',
    details: { box: boxId },
  });
}

/** Calls back when QEMU stops a machine at a write that found no room. The result ends that. */
function onRefusedWrite(machine: Machine, listener: () => void): () => void {
  return machine.qmp.onEvent(({ event, data }) => {
    if (event === 'BLOCK_IO_ERROR' && data.action === 'stop') listener();
  });
}

/** A machine that is kept answering. */
export interface KeptAnswering extends Disposable {
  /** Whether a write found no room meanwhile. */
  readonly metFullDisk: boolean;
}

/**
 * Lets a machine run until the result is disposed of, though QEMU may stop it at each write that finds no room on the
 * host's disk: so its guest answers, a little at a time, and whoever takes it over need not wait for room.
 */
export async function keepAnswering(machine: Machine, logger: Logger): Promise<KeptAnswering> {
  let metFullDisk = false;
  let timer: NodeJS.Timeout | undefined;
  const off = onRefusedWrite(machine, () => {
    metFullDisk = true;
    clearTimeout(timer);
    timer = setTimeout(() => inBackground(machine.run(), 'let a machine answer', logger), answerAfterMs);
  });
  await machine.run();
  return {
    get metFullDisk() {
      return metFullDisk;
    },
    [Symbol.dispose]: () => {
      off();
      clearTimeout(timer);
    },
  };
}

/**
 * Notices when QEMU stops a machine because the host had no room for what it wrote (events BLOCK_IO_ERROR and STOP), says so
 * in `BoxInfo.failure`, and lets it go on when there is room: QEMU then makes the refused writes again. Nothing is stored
 * of it: the disk that is full is mostly the database's own, and an engine that takes the machine over sees it anew.
 */
export function watchDisks(ctx: MachinesContext, live: LiveBox): void {
  const waitForRoom = (): void => {
    live.disks.full = true;
    if (live.disks.isWaiting) return;
    live.disks.isWaiting = true;
    inBackground(untilRoom(ctx, live), `let the machine of box ${live.boxId} go on`, ctx.logger);
  };
  onRefusedWrite(live.machine, waitForRoom);
  // It was taken over so.
  if (live.disks.full) waitForRoom();
}

async function untilRoom(ctx: MachinesContext, live: LiveBox): Promise<void> {
  ctx.logger.warn(fullDiskFailure, { box: live.boxId });
  inBackground(announceOf(ctx, live, 'disk_full'), 'tell of a full disk', ctx.logger);
  try {
    if (!(await goesOn(ctx, live))) return;
  } finally {
    live.disks.isWaiting = false;
  }
  ctx.logger.warn('a box goes on after the disk of the host was full', { box: live.boxId });
  await announceOf(ctx, live, 'running');
}

async function announceOf(ctx: MachinesContext, live: LiveBox, change: string): Promise<void> {
  announce(ctx, await requireRow(ctx.db, live.boxId), change);
}

/** Tries until the machine goes on (true), or has ended or is left to the next engine (false). */
async function goesOn(ctx: MachinesContext, live: LiveBox): Promise<boolean> {
  const isOver = (): boolean => ctx.closing.signal.aborted || ctx.live.get(live.boxId) !== live;
  const wait = async (ms: number): Promise<void> =>
    await sleep(ms, undefined, { ref: false, signal: ctx.closing.signal }).catch(() => undefined);
  for (
    let waitMs: number = tryAfterMs.first;
    live.disks.full;
    waitMs = Math.min(2 * waitMs, tryAfterMs.most)
  ) {
    await wait(waitMs);
    if (isOver()) return false;
    if (!(await hasRoom(ctx))) continue;
    await goOn(live);
    // The writes that were refused are made again now: where there is no room after all, that is told at once.
    await wait(tryAfterMs.first);
    if (isOver()) return false;
  }
  return true;
}

async function hasRoom(ctx: MachinesContext): Promise<boolean> {
  const { bavail, bsize } = await statfs(ctx.paths.layers);
  return bavail * bsize >= enoughBytes;
}

const runState = z.object({ status: z.string() });

/** Lets a machine go on that was stopped by an error of its disks. A new error sets `full` again. */
async function goOn(live: LiveBox): Promise<void> {
  const { status } = await live.machine.qmp.query('query-status', runState);
  live.disks.full = false;
  if (status === 'io-error') await live.machine.run();
}
