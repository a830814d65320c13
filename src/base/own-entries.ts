import { lstat, readdir } from 'node:fs/promises';
import { ifExists } from './files.js';

/**
 * Names in a folder of ours that may be deleted if nothing needs them: `isOurs` knows their form, and they are no
 * symbolic links. None at all when the folder itself is a link: what lies behind it is not ours.
 */
export async function ownEntries(folder: string, isOurs: (name: string) => boolean): Promise<string[]> {
  if (!(await isOwnFolder(folder))) return [];
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.filter((entry) => !entry.isSymbolicLink() && isOurs(entry.name)).map(({ name }) => name);
}

/** Whether a folder of ours is a directory of its own, and no link to another. */
export async function isOwnFolder(path: string): Promise<boolean> {
  return (await ifExists(lstat(path)))?.isDirectory() ?? false;
}
