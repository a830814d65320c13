import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

/** How long an installation may take: the largest is about 40 MB. */
export const installMs = 300_000;

/**
 * A directory with what tests install, kept below `.cache`, which git ignores, from one run to the next. `install` is given
 * an empty directory to fill; it is there whole, or not at all, whoever else installs the same meanwhile.
 */
export async function installedOnce(
  name: string,
  install: (directory: string) => Promise<void>,
): Promise<string> {
  const kept = resolve('.cache', name);
  const isThere = await access(kept).then(
    () => true,
    () => false,
  );
  if (isThere) return kept;
  await mkdir(dirname(kept), { recursive: true });
  const partial = await mkdtemp(`${kept}.`);
  try {
    await install(partial);
    // Another run may have been faster; then its directory is as good.
    await rename(partial, kept).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return kept;
}

/** Options of npm that keep programs of packages from running and npm from asking for more than it needs. */
export const npmInstall = ['install', '--ignore-scripts', '--no-audit', '--no-fund'] as const;
