import { setTimeout as delay } from 'node:timers/promises';
import { isOlderVersion, packageVersion } from '../base/version.js';
import type { HomePaths } from '../engine/core/home.js';
import { lockOwner } from '../engine/core/lock-owner.js';
import { CryoboxError, isCryoboxError } from '../errors.js';
import { askToHandOver, type EngineHello, engineHello } from '../remote/engine-control.js';
import type { BackgroundOptions } from './background.js';

/** So long an engine that somebody else has started, or that is just closing, may take. */
const waitMs = 60_000;
/** Between looks at a home that somebody else is about to take or to let go of; longer each time. */
const lookDelaysMs = { first: 10, most: 250, growth: 1.5 } as const;

/** Makes sure of engines of one home one after the other within a process. */
const underWay = new Map<string, Promise<void>>();

/**
 * Makes sure that an engine answers on the socket of a home: waits for one that is starting, replaces one that ended or is
 * of an earlier release, starts one in the background when there is none. Throws what opening an engine throws,
 * `engine_unavailable`, `permission_denied`.
 */
export function ensureEngine(paths: HomePaths, options: BackgroundOptions = {}): Promise<void> {
  const earlier = underWay.get(paths.root);
  if (earlier !== undefined) return earlier;
  const task = ensure(paths, options).finally(() => underWay.delete(paths.root));
  underWay.set(paths.root, task);
  return task;
}

async function ensure(paths: HomePaths, options: BackgroundOptions): Promise<void> {
  await untilSettled(paths, async () => {
    const hello = await helloOf(paths);
    if (hello !== 'nobody') return (await gaveWay(paths, hello)) ? undefined : true;
    if ((await lockOwner(paths.lock)) !== undefined) return undefined;
    // Loaded by who starts one only, as with all that it needs.
    const { startBackground } = await import('./background.js');
    return (await startBackground(paths, options)) || undefined;
  });
}

/**
 * Opens a home with `open`, which throws `home_in_use` while another process has it: an engine in the background is
 * asked to hand it over, one that is closing is waited for. Throws `home_in_use`, naming what helps, when it stays taken.
 */
export async function takeOver<T>(paths: HomePaths, open: () => Promise<T>): Promise<T> {
  return await untilSettled(paths, async () => {
    try {
      return await open();
    } catch (error) {
      if (!isCryoboxError(error, 'home_in_use')) throw error;
    }
    if ((await helloOf(paths)) !== 'nobody') await handOver(paths);
    return undefined;
  });
}

/** Asks who answers for a home. `unknown`: an engine that does not say, being of an early release or too busy. */
export async function helloOf(paths: HomePaths): Promise<EngineHello | 'unknown' | 'nobody'> {
  try {
    return (await engineHello(paths.socket)) ?? 'nobody';
  } catch (error) {
    if (isCryoboxError(error, 'permission_denied')) {
      // Whose home it is says more than that the socket is closed.
      const { inspectHome } = await import('../engine/core/home-directory.js');
      await inspectHome(paths);
      throw error;
    }
    if (isCryoboxError(error)) return 'unknown';
    throw error;
  }
}

/** What `look` gives once it gives something. Throws `engine_unavailable` when that takes too long. */
export async function untilSettled<T>(paths: HomePaths, look: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + waitMs;
  let delayMs: number = lookDelaysMs.first;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw await stuck(paths);
    await delay(delayMs);
    delayMs = Math.min(delayMs * lookDelaysMs.growth, lookDelaysMs.most);
  }
}

async function stuck(paths: HomePaths): Promise<CryoboxError> {
  const pid = await lockOwner(paths.lock);
  const who = pid === undefined ? 'the engine of the home' : `process ${pid}, which has the home,`;
  return new CryoboxError(
    'engine_unavailable',
    `${who} does not answer at ${paths.socket} for ${waitMs / 1000} s`,
    { hint: `See ${paths.engineLog}; \`cryobox engine stop\` ends the engine, boxes go on.` },
  );
}

/** Whether an engine let go of the home because it is of an earlier release. One that does not is used as it is. */
async function gaveWay(paths: HomePaths, hello: EngineHello | 'unknown'): Promise<boolean> {
  if (hello === 'unknown' || hello.kind !== 'background') return false;
  if (!isOlderVersion(hello.version, packageVersion())) return false;
  try {
    await askToHandOver(paths.socket);
    return true;
  } catch (error) {
    if (isCryoboxError(error)) return false;
    throw error;
  }
}

async function handOver(paths: HomePaths): Promise<void> {
  try {
    await askToHandOver(paths.socket);
  } catch (error) {
    // It went meanwhile.
    if (isCryoboxError(error, 'network_unavailable') || isCryoboxError(error, 'upstream_unavailable')) return;
    if (!isCryoboxError(error, 'not_found')) throw error;
    throw new CryoboxError('home_in_use', 'an engine of an earlier release owns this home', { cause: error });
  }
}
