import { CryoboxError } from '../../errors.js';
import { blockSize, blocksPerGroup, fullDiskHint, type Geometry } from './geometry.js';

/** A run of disk blocks. */
export interface BlockRun {
  readonly start: number;
  readonly count: number;
}

/** Bits set in each byte value. */
const ones = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length);

/**
 * Hands out blocks in ascending order, so that content is written in one sweep; blocks given back by files that a
 * higher layer replaced are used again once the end is reached. A run never crosses a group.
 */
export class BlockAllocator {
  /** One bit a block, set when in use, in ext4's own bitmap form. */
  readonly bitmap: Uint8Array;
  readonly #blockCount: number;
  #next = 0;
  #freeCount: number;

  constructor(geometry: Geometry) {
    this.#blockCount = geometry.blockCount;
    this.bitmap = new Uint8Array(geometry.blockCount / 8);
    this.#freeCount = geometry.blockCount;
    for (const [start, count] of geometry.fixedRuns()) this.#mark({ start, count });
  }

  /** Blocks nobody uses. */
  get freeCount(): number {
    return this.#freeCount;
  }

  /** The next run of free blocks, at most `wanted` long. Throws `image_refused` when the disk is full. */
  allocate(wanted: number): BlockRun {
    const start = this.#findFree();
    const groupEnd = (Math.floor(start / blocksPerGroup) + 1) * blocksPerGroup;
    const limit = Math.min(start + wanted, groupEnd);
    let end = start + 1;
    while (end < limit && !this.isUsed(end)) end += 1;
    const run = { start, count: end - start };
    this.#mark(run);
    this.#next = end;
    return run;
  }

  /** As many runs as it takes for `wanted` blocks. */
  allocateAll(wanted: number): BlockRun[] {
    const runs: BlockRun[] = [];
    for (let left = wanted; left > 0; ) {
      const run = this.allocate(left);
      runs.push(run);
      left -= run.count;
    }
    return runs;
  }

  /** Gives blocks back. */
  release(run: BlockRun): void {
    for (let block = run.start; block < run.start + run.count; block += 1) {
      this.bitmap[block >>> 3] = (this.bitmap[block >>> 3] ?? 0) & ~(1 << (block & 7));
    }
    this.#freeCount += run.count;
  }

  /** Whether a block is in use. */
  isUsed(block: number): boolean {
    return ((this.bitmap[block >>> 3] ?? 0) & (1 << (block & 7))) !== 0;
  }

  /** A group's part of the bitmap. */
  groupBitmap(group: number): Uint8Array {
    return this.bitmap.subarray((group * blocksPerGroup) / 8, ((group + 1) * blocksPerGroup) / 8);
  }

  /** Blocks in use in a group. */
  usedInGroup(group: number): number {
    let used = 0;
    for (const byte of this.groupBitmap(group)) used += ones[byte] ?? 0;
    return used;
  }

  #findFree(): number {
    for (;;) {
      while (this.#next < this.#blockCount) {
        if (!this.isUsed(this.#next)) return this.#next;
        // Whole bytes of used blocks are skipped eight at a time.
        this.#next += (this.#next & 7) === 0 && this.bitmap[this.#next >>> 3] === 0xff ? 8 : 1;
      }
      if (this.#freeCount === 0) throw this.#full();
      this.#next = 0;
    }
  }

  #full(): CryoboxError {
    return new CryoboxError(
      'image_refused',
      `the image does not fit on a disk of ${this.#blockCount * blockSize} bytes`,
      { hint: fullDiskHint },
    );
  }

  #mark(run: BlockRun): void {
    for (let block = run.start; block < run.start + run.count; block += 1) {
      this.bitmap[block >>> 3] = (this.bitmap[block >>> 3] ?? 0) | (1 << (block & 7));
    }
    this.#freeCount -= run.count;
  }
}
