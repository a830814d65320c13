import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { CryoboxError } from '../errors.js';
import { ifExists } from './files.js';
import { showName, toBytes } from './tar/names.js';

/** Segments of a name inside a tar, binary strings like the name; `archive_invalid` when it could lead out of the tree. */
export function entrySegments(name: string): string[] {
  const segments = name.split('/').filter((segment) => segment !== '' && segment !== '.');
  if (name.startsWith('/') || name.includes('\0') || segments.includes('..')) {
    throw new CryoboxError('archive_invalid', `A tar entry leads out of its tree: ${showName(name)}`);
  }
  return segments;
}

/**
 * Fails with `archive_invalid` when a parent directory of an entry is a symbolic link: a hostile tar makes the link
 * first and writes through it then.
 */
export async function refuseLinkedParents(root: string, segments: readonly string[]): Promise<void> {
  let path = root;
  for (const segment of segments.slice(0, -1)) {
    path = join(path, segment);
    const stat = await ifExists(lstat(toBytes(path)));
    if (stat === undefined) return;
    if (!stat.isDirectory()) {
      throw new CryoboxError(
        'archive_invalid',
        `A tar entry goes through ${showName(path)}, which is no directory`,
      );
    }
  }
}
