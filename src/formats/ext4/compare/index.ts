/** Changed files between two disks. */
import type { DiskDiff, FileChange } from '../../../api/index.js';
import { fromBytes, toBytes } from '../../../base/tar/names.js';
import { CryoboxError } from '../../../errors.js';
import { type DiskChain, findChanges } from '../../qcow2/index.js';
import { FileSystem } from '../read/file-system.js';
import { fileChanges } from './walk.js';

/** Characters of the paths of one page: few paths are long, and a guest can make all of them so. */
const maxPathCharacters = 8 * 1024 * 1024;
/** Longest path as it stands in a position: 4096 bytes in base64. */
const maxPosition = 8192;

/** A disk with an ext4 file system, and what it is called in errors. */
export interface NamedDisk {
  readonly chain: DiskChain;
  readonly what: string;
}

/** Which page of the changes is read. */
export interface DiffPage {
  /** `DiskDiff.next` of the page before. */
  readonly after?: string;
  /** Most changes. */
  readonly limit: number;
  readonly signal?: AbortSignal;
}

/**
 * Compares the file systems of two disks, which must come from one `openBoth`: what both have in the same place is not read.
 * Throws `disk_image_invalid` for a damaged file system or one that is not understood, `resource_exhausted` for one that
 * takes too much, `invalid_argument` for a wrong position, `cancelled`.
 */
export async function diffDisks(from: NamedDisk, to: NamedDisk, page: DiffPage): Promise<DiskDiff> {
  const { limit, signal } = page;
  const after = page.after === undefined ? undefined : pathOf(page.after);
  const differences = await findChanges(from.chain, to.chain, signal);
  const one = await FileSystem.open(from.chain, { what: from.what, differences, signal });
  const other = await FileSystem.open(to.chain, { what: to.what, differences, signal, beside: one });
  const changes: FileChange[] = [];
  let last = '';
  let characters = 0;
  for await (const { path, change } of fileChanges(one, other, differences, after)) {
    if (changes.length === limit || characters > maxPathCharacters)
      return { changes, next: positionOf(last) };
    changes.push(change);
    characters += change.path.length;
    last = path;
  }
  return { changes, next: null };
}

/** The root's path is empty: the letter before it keeps every position a text that is none. */
function positionOf(path: string): string {
  return `p${toBytes(path).toString('base64url')}`;
}

function pathOf(position: string): string {
  const isOne = /^p[A-Za-z0-9_-]*$/.test(position) && position.length <= maxPosition;
  if (isOne) return fromBytes(Buffer.from(position.slice(1), 'base64url'));
  throw new CryoboxError('invalid_argument', 'after is no position in a list of changed files', {
    hint: 'Give `next` of the page before, as it is.',
  });
}
