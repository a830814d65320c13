import type { FileInfo } from '../../api/index.js';
import { sortInTurns } from '../../base/sort.js';
import { CryoboxError } from '../../errors.js';
import type { GuestFileInfo } from '../../guest/index.js';

/** Entries of one answer: directories of this size are listed in a second; a guest may name them without end. */
const maxEntries = 100_000;
/** Characters of their paths and link targets: what the longest names of as many files take in sum, with room. */
const maxCharacters = 32 * 1024 * 1024;

/** A file as the guest describes it, for callers. */
export function infoOf(path: string, info: GuestFileInfo): FileInfo {
  const known = info.type === 'file' || info.type === 'directory' || info.type === 'symlink';
  return {
    path,
    type: known ? info.type : 'other',
    sizeBytes: info.size,
    mode: info.mode,
    uid: info.uid,
    gid: info.gid,
    modifiedAt: new Date(info.mtimeMs),
    ...(info.linkTarget ? { linkTarget: info.linkTarget } : {}),
  };
}

/** The entries of a directory while they come. */
export class Listing {
  readonly #path: string;
  readonly #prefix: string;
  readonly #entries: FileInfo[] = [];
  #characters = 0;

  constructor(path: string) {
    this.#path = path;
    this.#prefix = path.replace(/\/+$/, '');
  }

  /** Takes one more. Throws `payload_too_large` when that is beyond what one answer holds. */
  add(info: GuestFileInfo): void {
    const entry = infoOf(`${this.#prefix}/${info.name}`, info);
    this.#characters += entry.path.length + (entry.linkTarget?.length ?? 0);
    if (this.#entries.length >= maxEntries || this.#characters > maxCharacters) throw this.#tooMany();
    this.#entries.push(entry);
  }

  /** All of them, by path. */
  async sorted(): Promise<FileInfo[]> {
    return await sortInTurns(this.#entries, (a, b) => (a.path < b.path ? -1 : 1));
  }

  #tooMany(): CryoboxError {
    return new CryoboxError(
      'payload_too_large',
      `${this.#path} has more than the ${maxEntries} entries of one answer, or longer names than it holds`,
      {
        hint: 'List it by a command in the box, such as find, or list the directories below it.',
        details: { path: this.#path, limit: maxEntries },
      },
    );
  }
}
