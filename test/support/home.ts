import { copyFile, link, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ifExists } from '../../src/base/files.js';

/** Where tests keep what is made once: a home with a golden machine and images, and homes made from it. */
const cache = resolve('.cache');
export const seedHome = join(cache, 'seed');
const homes = join(cache, 'homes');

/** A home of a test: its own, with the golden machine and the images `tiny` and `debian-python` in it already. */
export interface TestHome extends AsyncDisposable {
  readonly path: string;
}

/** Makes a home from the seed: layers and blobs never change, so they are linked. */
export async function newHome(): Promise<TestHome> {
  await mkdir(homes, { recursive: true });
  const path = await mkdtemp(join(homes, 'h'));
  for (const folder of ['layers', 'images/blobs/sha256', 'guest']) await linkFolder(folder, path);
  await copyFile(join(seedHome, 'cryobox.db'), join(path, 'cryobox.db'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 3 }) };
}

async function linkFolder(folder: string, home: string): Promise<void> {
  await mkdir(join(home, folder), { recursive: true });
  for (const name of (await ifExists(readdir(join(seedHome, folder)))) ?? []) {
    await link(join(seedHome, folder, name), join(home, folder, name));
  }
}
