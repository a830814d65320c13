import type { DiskFile } from './disk-file.js';
import { blockSize, type Geometry, inodeSize, inodesPerGroup } from './geometry.js';

const inodesPerBlock = blockSize / inodeSize;

/** Writes inodes in ascending order of their numbers, a block of 16 at a time, and counts them by group. */
export class InodeTable {
  readonly #geometry: Geometry;
  readonly #file: DiskFile;
  readonly #used: number[];
  readonly #directories: number[];
  #block = Buffer.alloc(blockSize);
  #blockIndex = 0;
  #dirty = false;

  constructor(geometry: Geometry, file: DiskFile) {
    this.#geometry = geometry;
    this.#file = file;
    this.#used = new Array<number>(geometry.groupCount).fill(0);
    this.#directories = new Array<number>(geometry.groupCount).fill(0);
  }

  /** The 256 zeroed bytes of an inode, to be filled before the next call. */
  async next(inode: number, isDirectory: boolean): Promise<Buffer> {
    const index = Math.floor((inode - 1) / inodesPerBlock);
    if (index !== this.#blockIndex) {
      await this.flush();
      this.#blockIndex = index;
    }
    this.#dirty = true;
    const group = Math.floor((inode - 1) / inodesPerGroup);
    this.#used[group] = ((inode - 1) % inodesPerGroup) + 1;
    if (isDirectory) this.#directories[group] = this.directories(group) + 1;
    const at = ((inode - 1) % inodesPerBlock) * inodeSize;
    return this.#block.subarray(at, at + inodeSize);
  }

  /** Writes the block begun. */
  async flush(): Promise<void> {
    if (!this.#dirty) return;
    const blocksPerTable = inodesPerGroup / inodesPerBlock;
    const group = Math.floor(this.#blockIndex / blocksPerTable);
    await this.#file.inodes.write(
      this.#geometry.inodeTable(group) + (this.#blockIndex % blocksPerTable),
      this.#block,
    );
    this.#block.fill(0);
    this.#dirty = false;
  }

  /** Inodes in use in a group: always the first ones. */
  used(group: number): number {
    return this.#used[group] ?? 0;
  }

  /** Directories of a group. */
  directories(group: number): number {
    return this.#directories[group] ?? 0;
  }

  /** The inode bitmap of a group; the bits behind the last inode are set, as the format asks. */
  bitmap(group: number): Buffer {
    const bytes = Buffer.alloc(blockSize, 0xff);
    bytes.fill(0, 0, inodesPerGroup / 8);
    for (let index = 0; index < this.used(group); index += 1) {
      bytes[index >>> 3] = (bytes[index >>> 3] ?? 0) | (1 << (index & 7));
    }
    return bytes;
  }
}
