import { setTimeout as delay } from 'node:timers/promises';
import { defaultHome, type HomePaths, homePaths } from '../engine/home.js';
import { lockOwner } from '../engine/lock-owner.js';
import { CryoboxError, errnoOf } from '../errors.js';
import { answers, ensureEngine } from './background.js';

/** The engine of a home, seen from outside. */
export interface EngineStatus {
  readonly home: string;
  readonly socket: string;
  /** Whether a process owns the home. */
  readonly running: boolean;
  /** Whether it answers on its socket. */
  readonly answering: boolean;
  readonly pid: number | null;
}

/** Closing waits for operations under way; then the engine is killed, which it survives as any crash. */
const stopTimeoutMs = 30_000;
const lookAgainMs = 25;

/** Who owns a home, and whether it answers. */
export async function engineStatus(home = defaultHome()): Promise<EngineStatus> {
  const paths = homePaths(home);
  const pid = await lockOwner(paths.lock);
  return statusOf(paths, pid, pid !== undefined && (await answers(paths.socket)));
}

/** Starts the engine of a home in the background unless one answers. Throws as opening a runtime does. */
export async function startEngine(home = defaultHome()): Promise<EngineStatus> {
  const paths = homePaths(home);
  await ensureEngine(paths);
  return statusOf(paths, await lockOwner(paths.lock), true);
}

/** Stops the engine of a home; boxes go on running. False when there was none. */
export async function stopEngine(home = defaultHome()): Promise<boolean> {
  const { lock } = homePaths(home);
  const pid = await lockOwner(lock);
  if (pid === undefined) return false;
  if (pid === process.pid) throw new CryoboxError('invalid_state', 'this process itself owns the home');
  signal(pid, 'SIGTERM');
  const deadline = Date.now() + stopTimeoutMs;
  // No event tells of the end of a process that is not a child.
  while ((await lockOwner(lock)) === pid) {
    if (Date.now() > deadline) signal(pid, 'SIGKILL');
    await delay(lookAgainMs);
  }
  return true;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

function statusOf(paths: HomePaths, pid: number | undefined, answering: boolean): EngineStatus {
  return { home: paths.root, socket: paths.socket, running: pid !== undefined, answering, pid: pid ?? null };
}
