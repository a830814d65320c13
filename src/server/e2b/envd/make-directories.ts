import { posix } from 'node:path';
import type { Files } from '../../../api/index.js';
import type { User } from './users.js';

/** Makes a directory and those above it that are missing; what is new belongs to the user. */
export async function makeDirectories(files: Files, path: string, owner: User): Promise<void> {
  const missing: string[] = [];
  let at = path;
  while (at !== '/' && !(await files.stat(at))) {
    missing.unshift(at);
    at = posix.dirname(at);
  }
  for (const directory of missing) {
    await files.makeDirectory(directory, { owner: { uid: owner.uid, gid: owner.gid } });
  }
}
