/** Whether two files have the same content: what both store in the same place is not read. */
import type { Differences } from '../read/blocks.js';
import { windowBytes } from '../read/blocks.js';
import type { FileSystem } from '../read/file-system.js';
import type { Inode } from '../read/inode.js';
import type { Runs } from '../read/runs.js';

/** Bytes compared at once where both have their own. */
const pieceBytes = 1024 * 1024;
/** Files with several names whose results are remembered: a few megabytes. */
const maxRemembered = 50_000;

/** A file of one of the two file systems. */
interface Side {
  readonly fileSystem: FileSystem;
  readonly inode: Inode;
}

/** Compares the contents of files of two file systems. */
export class ContentComparison {
  readonly #from: FileSystem;
  readonly #to: FileSystem;
  readonly #differences: Differences;
  readonly #scratch = [Buffer.alloc(0), Buffer.alloc(0)];
  /** Results by the numbers of two inodes with several names. */
  readonly #known = new Map<string, boolean>();

  constructor(from: FileSystem, to: FileSystem, differences: Differences) {
    this.#from = from;
    this.#to = to;
    this.#differences = differences;
  }

  /**
   * Whether two regular files have the same bytes. `sameInode`: their inodes are equal, byte by byte. Throws as reading a
   * {@link FileSystem} does.
   */
  async same(one: Inode, other: Inode, sameInode: boolean): Promise<boolean> {
    if (one.size !== other.size) return false;
    if (one.links === 1 && other.links === 1) return await this.#compare(one, other, sameInode);
    const key = `${one.number}:${other.number}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const same = await this.#compare(one, other, sameInode);
    if (this.#known.size >= maxRemembered) this.#known.clear();
    this.#known.set(key, same);
    return same;
  }

  async #compare(inode: Inode, otherInode: Inode, sameInode: boolean): Promise<boolean> {
    const one = { fileSystem: this.#from, inode };
    const other = { fileSystem: this.#to, inode: otherInode };
    if (inode.isInline || otherInode.isInline) {
      // What lies in an inode is equal where the inodes are.
      return sameInode || (await readWhole(one)).equals(await readWhole(other));
    }
    return await this.#compareRuns(
      new Reader(one, await this.#from.runs(inode)),
      new Reader(other, await this.#to.runs(otherInode)),
      inode.size,
    );
  }

  async #compareRuns(one: Reader, other: Reader, size: number): Promise<boolean> {
    for (let at = 0; at < size; ) {
      const [here, there] = [one.at(at), other.at(at)];
      const end = Math.min(size, here.end, there.end);
      if (!(await this.#compareStretch(one, other, at, end))) return false;
      at = end;
      await this.#from.step();
    }
    return true;
  }

  /** A stretch that each side has in one place, or has not. */
  async #compareStretch(one: Reader, other: Reader, from: number, to: number): Promise<boolean> {
    const [here, there] = [one.at(from).place, other.at(from).place];
    if (here === undefined && there === undefined) return true;
    const isSamePlace = here === there;
    if (isSamePlace && here !== undefined && !this.#differences.touches(here, to - from)) return true;
    for (let at = from; at < to; ) {
      const place = here === undefined ? there : here;
      // In the same place, each cluster of its own is either shared or not.
      const step = isSamePlace ? windowBytes - (((place ?? 0) + at - from) % windowBytes) : pieceBytes;
      const end = Math.min(to, at + step);
      const skip =
        isSamePlace && here !== undefined && !this.#differences.touches(here + at - from, end - at);
      if (!skip) {
        const mine = await this.#read(0, one, here === undefined ? undefined : here + at - from, end - at);
        const theirs = await this.#read(
          1,
          other,
          there === undefined ? undefined : there + at - from,
          end - at,
        );
        if (!mine.equals(theirs)) return false;
      }
      at = end;
      await this.#from.step();
    }
    return true;
  }

  /** Bytes of a side: of its cache where they lie in one window of it. Zeros where it has none. */
  async #read(index: 0 | 1, side: Reader, place: number | undefined, length: number): Promise<Buffer> {
    const { blocks } = side.fileSystem;
    if (place !== undefined && (place % windowBytes) + length <= windowBytes) {
      return await blocks.small(place, length);
    }
    if ((this.#scratch[index]?.length ?? 0) < length)
      this.#scratch[index] = Buffer.allocUnsafeSlow(pieceBytes);
    const target = (this.#scratch[index] as Buffer).subarray(0, length);
    if (place === undefined) target.fill(0);
    else await blocks.into(target, place);
    return target;
  }
}

/** Finds where bytes of a file are; asked for places that only grow. */
class Reader {
  readonly fileSystem: FileSystem;
  readonly #runs: Runs;
  readonly #blockSize: number;
  #next = 0;

  constructor({ fileSystem }: Side, runs: Runs) {
    this.fileSystem = fileSystem;
    this.#runs = runs;
    this.#blockSize = fileSystem.layout.blockSize;
  }

  /** Where the byte at `offset` is on the disk (undefined: it is a zero), and up to where the file goes on so. */
  at(offset: number): { readonly place: number | undefined; readonly end: number } {
    const size = this.#blockSize;
    for (; this.#next < this.#runs.length; this.#next += 3) {
      const start = (this.#runs[this.#next] ?? 0) * size;
      const end = start + (this.#runs[this.#next + 2] ?? 0) * size;
      if (offset < start) return { place: undefined, end: start };
      if (offset < end) return { place: (this.#runs[this.#next + 1] ?? 0) * size + offset - start, end };
    }
    return { place: undefined, end: Number.POSITIVE_INFINITY };
  }
}

async function readWhole({ fileSystem, inode }: Side): Promise<Buffer> {
  return await fileSystem.wholeContent(inode);
}
