/** All files that differ between two file systems, in the order of their paths. */
import type { FileChange } from '../../../api/index.js';
import { toText } from '../../../base/tar/names.js';
import type { Differences } from '../read/blocks.js';
import { type FileSystem, rootInode } from '../read/file-system.js';
import type { Inode } from '../read/inode.js';
import { damaged, tooMuch } from '../read/refusals.js';
import { changeOf, FileComparison } from './files.js';
import { Frame, type SortedEntries, sorted } from './frames.js';

/** Longest path in bytes: Linux takes no longer one (PATH_MAX). */
const maxPathBytes = 4096;
/** Names of open directories that are held in memory: about 150 MB of the longest usual ones. */
const maxHeldNames = 1_000_000;

/** A change, and its path as a binary string without the slash it begins with. */
export interface FoundChange {
  readonly path: string;
  readonly change: FileChange;
  /** The file as the second file system has it; undefined: it was removed. */
  readonly inode: Inode | undefined;
}

/** Numbers, in blocks of bits that are made when they are needed. */
class NumberSet {
  readonly #chunks = new Map<number, Uint8Array>();

  /** Adds a number; false when it was there. */
  add(number: number): boolean {
    const index = Math.floor(number / 2 ** 15);
    const chunk = this.#chunks.get(index) ?? new Uint8Array(2 ** 12);
    this.#chunks.set(index, chunk);
    const bit = number % 2 ** 15;
    const before = chunk[bit >> 3] ?? 0;
    chunk[bit >> 3] = before | (1 << (bit & 7));
    return (before & (1 << (bit & 7))) === 0;
  }
}

/**
 * Goes through two trees side by side. A directory comes before what is in it; names come in byte order. `after`: a path of
 * an earlier change; those up to it are left out, and directories before it are not read. Throws as reading a
 * {@link FileSystem} does, `resource_exhausted` for paths over 4096 bytes and more than a million names in open directories.
 */
export async function* fileChanges(
  from: FileSystem,
  to: FileSystem,
  differences: Differences,
  after: string | undefined,
): AsyncGenerator<FoundChange> {
  const walk = new Walk(from, to, differences);
  yield* walk.changes(after);
}

class Walk {
  readonly #from: FileSystem;
  readonly #to: FileSystem;
  readonly #differences: Differences;
  readonly #files: FileComparison;
  readonly #seen = { from: new NumberSet(), to: new NumberSet() };
  readonly #frames: Frame[] = [];
  #held = 0;

  constructor(from: FileSystem, to: FileSystem, differences: Differences) {
    this.#from = from;
    this.#to = to;
    this.#differences = differences;
    this.#files = new FileComparison(from, to, differences);
  }

  async *changes(after: string | undefined): AsyncGenerator<FoundChange> {
    const root = await this.#from.inode(rootInode);
    const otherRoot = await this.#to.inode(rootInode);
    if (after === undefined) yield* this.#told('', root, otherRoot);
    await this.#enter('', after === undefined || after === '' ? [] : after.split('/'), root, otherRoot);
    for (let frame = this.#frames.at(-1); frame; frame = this.#frames.at(-1)) {
      const pair = frame.next();
      if (!pair) {
        this.#held -= frame.held;
        this.#frames.pop();
        continue;
      }
      await this.#from.step();
      const [behind, ...further] = frame.behind;
      const isPassed = behind !== undefined && pair.name <= behind;
      if (isPassed && pair.name !== behind) continue;
      const one = pair.from === undefined ? undefined : await this.#from.inode(pair.from);
      const other = pair.to === undefined ? undefined : await this.#to.inode(pair.to);
      const path = frame.prefix + pair.name;
      if (!isPassed) yield* this.#told(path, one, other);
      if (one?.isDirectory || other?.isDirectory) {
        await this.#enter(`${path}/`, isPassed ? further : [], one, other);
      }
    }
  }

  async *#told(path: string, one: Inode | undefined, other: Inode | undefined): AsyncGenerator<FoundChange> {
    const kind = await this.#files.kindOf(one, other);
    if (kind !== undefined)
      yield { path, change: changeOf(toText(`/${path}`), kind, one, other), inode: other };
  }

  async #enter(
    prefix: string,
    behind: readonly string[],
    one: Inode | undefined,
    other: Inode | undefined,
  ): Promise<void> {
    if (prefix.length > maxPathBytes)
      throw tooMuch(this.#to.what, `a path of more than ${maxPathBytes} bytes`);
    const here = one?.isDirectory ? await this.#list('from', one) : [];
    const isSame = one && other && (await this.#sameEntries(one, other));
    const there = isSame ? here : other?.isDirectory ? await this.#list('to', other) : [];
    if (isSame) this.#see('to', other);
    const frame = new Frame(prefix, behind, here, there);
    this.#held += frame.held;
    if (this.#held > maxHeldNames) {
      throw tooMuch(this.#to.what, `more than ${maxHeldNames} names in directories within each other`);
    }
    this.#frames.push(frame);
  }

  async #list(side: 'from' | 'to', directory: Inode): Promise<SortedEntries> {
    this.#see(side, directory);
    return sorted(await (side === 'from' ? this.#from : this.#to).entries(directory));
  }

  /** A directory has one name: one that is met again would be gone through without end. */
  #see(side: 'from' | 'to', { number }: Inode): void {
    if (this.#seen[side].add(number)) return;
    throw damaged((side === 'from' ? this.#from : this.#to).what, `directory ${number} is in two places`);
  }

  /** Whether two directories certainly hold the same: equal inodes, and all they point at is shared. */
  async #sameEntries(one: Inode, other: Inode): Promise<boolean> {
    if (one.number !== other.number || !one.isDirectory || !one.bytes.equals(other.bytes)) return false;
    if (one.isInline) return true;
    // A tree of extents, and a block map, have more blocks than those of the content.
    if (!one.hasExtents || one.content.readUInt16LE(6) > 0) return false;
    const runs = await this.#from.runs(one);
    const { blockSize } = this.#from.layout;
    for (let i = 0; i < runs.length; i += 3) {
      if (this.#differences.touches((runs[i + 1] ?? 0) * blockSize, (runs[i + 2] ?? 0) * blockSize))
        return false;
    }
    return true;
  }
}
