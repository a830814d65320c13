import { existsSync } from 'node:fs';
import type { ResourceUse } from '../api/index.js';
import { defaultHome, homePaths } from '../engine/core/home.js';
import { cacheDirectory, findKernel, guestProgramPath } from '../engine/machines/assets.js';

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
  /** What is used and may be used, without commands; empty where there is no home that can be read. */
  readonly uses: readonly ResourceUse[];
}

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
    uses: existsSync(paths.database) ? await usesOf(paths.root).catch(() => []) : [],
  };
}

async function usesOf(home: string): Promise<ResourceUse[]> {
  await using limits = await HomeLimits.open(home);
  return await limits.uses();
}
