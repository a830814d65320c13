import { cacheDirectory, findKernel, guestProgramPath } from '../engine/assets.js';
import { defaultHome, homePaths } from '../engine/home.js';

export { runDoctor } from '../engine/doctor/index.js';

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
  };
}
