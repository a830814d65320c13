import { setTimeout as delay } from 'node:timers/promises';
import { defaultHome, type HomePaths, homePaths } from '../engine/core/home.js';
import { inspectHome } from '../engine/core/home-directory.js';
import { lockOwner } from '../engine/core/lock-owner.js';
import { CryoboxError, errnoOf } from '../errors.js';
import type { EngineKind } from '../remote/engine-control.js';
import { ensureEngine, helloOf } from './ensure.js';

/** The engine of a home, seen from outside. */
export interface EngineStatus {
  readonly home: string;
  readonly socket: string;
  /** Whether a process owns the home. */
  readonly running: boolean;
  /** Whether it answers on its socket. */
  readonly answering: boolean;
  readonly pid: number | null;
  /** What the engine is part of, and its version; null when it does not say. */
  readonly kind: EngineKind | null;
  readonly version: string | null;
}

/** Closing waits for operations under way; then the engine is killed, which it survives as any crash. */
const stopTimeoutMs = 30_000;
const lookAgainMs = 25;

/** Who owns a home, and whether it answers. */
export async function engineStatus(home = defaultHome()): Promise<EngineStatus> {
  const paths = homePaths(home);
  await inspectHome(paths);
  return await statusOf(paths);
}

/** Starts the engine of a home in the background unless one answers. Throws as opening a runtime does. */
export async function startEngine(home = defaultHome()): Promise<EngineStatus> {
  const paths = homePaths(home);
  await ensureEngine(paths);
  return await statusOf(paths);
}

/**
 * Stops the engine of a home; boxes go on running. False when there was none. Throws `invalid_state` when it is part of a
 * program, which would end with it.
 */
export async function stopEngine(home = defaultHome()): Promise<boolean> {
  const paths = homePaths(home);
  await inspectHome(paths);
  const { lock } = paths;
  const pid = await lockOwner(lock);
  if (pid === undefined) return false;
  if (pid === process.pid) throw new CryoboxError('invalid_state', 'this process itself owns the home');
  const hello = await helloOf(paths);
  if (typeof hello === 'object' && hello.kind === 'in-process') {
    throw new CryoboxError('invalid_state', `the engine of this home is part of a program (process ${pid})`, {
      hint: 'End that program.',
      details: { pid },
    });
  }
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

async function statusOf(paths: HomePaths): Promise<EngineStatus> {
  const [pid, hello] = await Promise.all([lockOwner(paths.lock), helloOf(paths)]);
  const { kind = null, version = null } = typeof hello === 'object' ? hello : {};
  return {
    home: paths.root,
    socket: paths.socket,
    running: pid !== undefined || hello !== 'nobody',
    answering: hello !== 'nobody',
    pid: pid ?? (typeof hello === 'object' ? hello.pid : null),
    kind,
    version,
  };
}
