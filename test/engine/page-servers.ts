import { execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Box, Runtime } from '../../src/api/index.js';
import { readPageServerLog } from '../../src/memory/index.js';
import { output } from './support.js';

/** Process id of the page server of a box, by the log it writes; undefined when it has ended. */
export function pageServerOf(box: Box, home: string): number | undefined {
  const log = join(home, 'boxes', box.id, 'pager.log');
  const lines = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n');
  return lines
    .filter((line) => line.includes('page-server-main.js'))
    .map((line) => Number.parseInt(line, 10))
    .find((pid) => logOf(pid) === log);
}

/** As {@link pageServerOf}; throws when there is none. */
export function requirePageServer(box: Box, home: string): number {
  const pid = pageServerOf(box, home);
  if (pid === undefined) throw new Error('no page server');
  return pid;
}

function logOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/1`);
  } catch {
    // It has ended.
    return '';
  }
}

/** Resolves when a process has ended; there is no event for one that another process started. */
export async function gone(pid: number): Promise<void> {
  while (logOf(pid) !== '') await sleep(20);
}

/** A page server that is slowed down, so that its machine does not get all of its memory for a while. */
export interface SlowPageServer extends Disposable {
  readonly pid: number;
  /** Makes it stand still until it is let go. */
  hold(): void;
  /** Lets it run at full speed. */
  release(): void;
}

/** Milliseconds in which a slowed page server runs and stands still, in turn. */
const [runsMs, standsMs] = [20, 40];

/**
 * Resumes a box lazily and slows its page server down from its start: however busy the host is, the machine is without a
 * part of its memory until the server is let go.
 */
export async function resumeSlowly(box: Box, home: string): Promise<SlowPageServer> {
  const resumed = box.resume({ pager: 'uffd' });
  resumed.catch(() => undefined);
  let pid = pageServerOf(box, home);
  while (pid === undefined) {
    await sleep(5);
    pid = pageServerOf(box, home);
  }
  const server = pid;
  const { signal, abort } = withAbort();
  const stopAndGo = async () => {
    while (!signal.aborted && send(server, 'SIGSTOP')) {
      await sleep(standsMs);
      if (signal.aborted) return;
      send(server, 'SIGCONT');
      await sleep(runsMs);
    }
  };
  stopAndGo().catch(() => undefined);
  await resumed;
  const hold = (): void => {
    abort();
    send(server, 'SIGSTOP');
  };
  const release = (): void => {
    abort();
    send(server, 'SIGCONT');
  };
  return { pid: server, hold, release, [Symbol.dispose]: release };
}

/** Tries of {@link resumeUnsupplied}: each that finds the host too busy takes as long as a pause and a resume. */
const maxTries = 10;

/**
 * Resumes a paused box lazily and returns while the machine is still without a part of its memory and its page server stands
 * still. Where a busy host let the server come to its end first, the box is paused, and it is tried again. With `write`, its
 * `script` is run in the box before the server stands still, and `undo` before the next try.
 */
export async function resumeUnsupplied(
  box: Box,
  home: string,
  write?: { readonly script: string; readonly undo: string },
): Promise<SlowPageServer> {
  for (let round = 1; ; round += 1) {
    const server = await resumeSlowly(box, home);
    if (write) await output(box, write.script);
    server.hold();
    if (logOf(server.pid) !== '' && !(await hasAll(box, home))) return server;
    if (round === maxTries) throw new Error('the page server was always done before the script');
    server.release();
    if (write) await output(box, write.undo);
    await box.pause();
  }
}

async function hasAll(box: Box, home: string): Promise<boolean> {
  const events = await readPageServerLog(join(home, 'boxes', box.id, 'pager.log'));
  return events.some(({ event }) => event === 'done');
}

function withAbort(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    // It has ended.
    return false;
  }
}

/** Resolves with the time it took until a box is said to be paused; listens from now on. */
export async function pausedAfter(runtime: Runtime, box: Box): Promise<number> {
  const started = performance.now();
  for await (const event of runtime.events()) {
    if (event.id === box.id && event.change === 'paused') return performance.now() - started;
  }
  return Number.NaN;
}

/** Gives a box memory to fetch and a file on its disk. */
export const fill = 'head -c 8000000 /dev/urandom > /dev/shm/data; echo kept > /root/file; sync';
/** What `fill` made. */
export const look = 'md5sum < /dev/shm/data; cat /root/file';
/** So much that a page server is at work for seconds. */
export const fillMuch =
  'head -c 1000000 /dev/urandom > /root/piece; for i in $(seq 220); do cat /root/piece; done > /dev/shm/data; echo kept > /root/file; sync';
