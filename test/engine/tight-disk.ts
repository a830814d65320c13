import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, statfs, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HomeLimits } from '../../src/home/limits.js';
import { newHome } from '../support/home.js';

const run = promisify(execFile);

/** A home on a file system of its own that a test can fill up. */
export interface TightHome extends AsyncDisposable {
  readonly path: string;
  /** Leaves so much room and no more. */
  fill(leftKiB: number): Promise<void>;
  /** Gives the room back. */
  empty(): Promise<void>;
}

/** A file of any size needs some room for itself: the last of it is filled by small pieces. */
const edgeKiB = 2048;

async function availableKiB(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return Math.floor((bavail * bsize) / 1024);
}

/**
 * Makes a home from the seed on a file system of that size. Not tmpfs: that needs room also for holes which a machine
 * reads in the memory it maps, and ends the machine when there is none.
 */
export async function tightHome(sizeMiB: number): Promise<TightHome> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-tight-'));
  const [path, image] = [join(directory, 'home'), join(directory, 'image')];
  await mkdir(path);
  await writeFile(image, '');
  await truncate(image, sizeMiB * 2 ** 20);
  await run('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', image]);
  await run('mount', ['-o', 'loop', image, path]);
  const fillers = [join(path, 'filler'), join(path, 'rest')] as const;
  const home: TightHome = {
    path,
    fill: async (leftKiB) => {
      await Promise.all(fillers.map((file) => rm(file, { force: true })));
      const first = (await availableKiB(path)) - leftKiB - edgeKiB;
      if (first > 0) await run('fallocate', ['-l', `${first}KiB`, fillers[0]]);
      const pages = Math.ceil(((await availableKiB(path)) - leftKiB) / 4);
      const zeros = ['if=/dev/zero', `of=${fillers[1]}`, 'bs=4k', `count=${Math.max(0, pages)}`];
      // There may be no room for the last of them.
      await run('dd', zeros).catch(() => undefined);
    },
    empty: async () => {
      await Promise.all(fillers.map((file) => rm(file, { force: true })));
    },
    [Symbol.asyncDispose]: async () => {
      await run('umount', [path]);
      await rm(directory, { recursive: true });
    },
  };
  try {
    await using seed = await newHome();
    await run('cp', ['-a', '--sparse=always', `${seed.path}/.`, path]);
    // These tests are of a disk that is full, not of one that is kept from it.
    await using limits = await HomeLimits.open(path);
    await limits.set('home', { freeDiskMiB: 0 });
    return home;
  } catch (error) {
    await home[Symbol.asyncDispose]();
    throw error;
  }
}
