import { existsSync } from 'node:fs';
import type { ResourceUse } from '../api/index.js';
import { defaultHome, homePaths } from '../engine/core/home.js';
import { cacheDirectory, findKernel, guestProgramPath } from '../engine/machines/assets.js';
import { connectRuntime } from '../remote/index.js';

import { HomeLimits } from './limits.js';

export { runDoctor } from '../install/doctor/index.js';
export { setUpHost } from '../install/setup.js';

/** Where everything is kept. Paths are given whether or not something is there; `cryobox doctor` checks. */
export interface Installation {
  readonly node: string;
  readonly home: string;
  readonly cache: string;
  /** Version of the guest kernel, or null before set-up. */
  readonly kernel: string | null;
  readonly agent: string;
  readonly netguard: string;
  readonly engineLog: string;
  /** Machines that wait warmed for the next box; null where no engine answers. */
  readonly hotMachines: number | null;
  /** What is used and may be used, without commands; empty where there is no home that can be read. */
  readonly uses: readonly ResourceUse[];
}

/** An engine that runs answers at once, unless its host is overloaded. */
const answerMs = 5_000;

/** Where everything of a home, and of what all homes share, is kept. */
export async function installation(home = defaultHome()): Promise<Installation> {
  const paths = homePaths(home);
  const kernel = await findKernel().catch(() => null);
  return {
    node: process.versions.node,
    home: paths.root,
    cache: cacheDirectory(),
    kernel: kernel?.version ?? null,
    agent: guestProgramPath('cryobox-agent'),
    netguard: guestProgramPath('netguard.so'),
    engineLog: paths.engineLog,
    hotMachines: await hotMachinesOf(paths.socket),
    uses: existsSync(paths.database) ? await usesOf(paths.root).catch(() => []) : [],
  };
}

async function hotMachinesOf(socketPath: string): Promise<number | null> {
  if (!existsSync(socketPath)) return null;
  await using runtime = connectRuntime({ socketPath });
  // This is also asked where something is wrong: `engine status` says what.
  return await runtime.metrics({ signal: AbortSignal.timeout(answerMs) }).then(
    ({ hotMachines }) => hotMachines,
    () => null,
  );
}

async function usesOf(home: string): Promise<ResourceUse[]> {
  await using limits = await HomeLimits.open(home);
  return await limits.uses();
}
