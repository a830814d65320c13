/** Blocks of a file system: as the disk has them or, once the journal was replayed, as that has them. */

/** A disk to be read, as bytes. What it gives does not change meanwhile. */
export interface ByteDisk {
  readonly virtualSizeBytes: number;
  /** Fills `target` with the bytes from `offset` on. */
  readInto(target: Uint8Array, offset: number): Promise<void>;
}

/** Blocks that are newer elsewhere than in their places. */
export interface NewerBlocks {
  readonly size: number;
  has(block: number): boolean;
  /** Numbers of those from `first` up to `end`, in no order. */
  between(first: number, end: number): Iterable<number>;
  /** The newer bytes of a block that is one of them. */
  read(block: number): Promise<Buffer>;
}

/** Bytes of a window: a cluster of a layer, so that one is either shared by two disks or not. */
export const windowBytes = 64 * 1024;
/** Windows kept: 16 MiB. Inodes and directories of a hundred thousand files lie in as much. */
const maxWindows = 256;

/** Where two disks may differ; elsewhere they are equal. */
export interface Differences {
  /** Says that they may differ there. */
  add(offset: number, length: number): void;
  /** Whether they may differ anywhere there. */
  touches(offset: number, length: number): boolean;
}

/** The blocks of another disk, to take from where both are equal. */
export interface SharedBlocks {
  readonly blocks: Blocks;
  readonly differences: Differences;
}

/** Reads blocks through a cache of windows. */
export class Blocks {
  readonly #disk: ByteDisk;
  readonly #blockSize: number;
  readonly #copies: NewerBlocks | undefined;
  readonly #shared: SharedBlocks | undefined;
  /** By number, the one that was not used for longest first. */
  readonly #windows = new Map<number, Buffer>();

  constructor(disk: ByteDisk, blockSize: number, copies?: NewerBlocks, shared?: SharedBlocks) {
    this.#disk = disk;
    this.#blockSize = blockSize;
    this.#copies = copies;
    this.#shared = shared;
  }

  /** Bytes that lie within one window, as a part of it: it must not be changed. */
  async small(offset: number, length: number): Promise<Buffer> {
    const index = Math.floor(offset / windowBytes);
    const window = this.#windows.get(index) ?? (await this.#load(index));
    const at = offset - index * windowBytes;
    return window.subarray(at, at + length);
  }

  /** One block, as {@link small}. */
  async block(number: number): Promise<Buffer> {
    return await this.small(number * this.#blockSize, this.#blockSize);
  }

  /** Fills `target` with bytes from `offset` on, of any length: the cache is left alone. */
  async into(target: Buffer, offset: number): Promise<void> {
    await this.#disk.readInto(target, offset);
    await this.#patch(target, offset);
  }

  async #load(index: number): Promise<Buffer> {
    const offset = index * windowBytes;
    const length = Math.min(windowBytes, this.#disk.virtualSizeBytes - offset);
    const window =
      this.#shared && !this.#shared.differences.touches(offset, length)
        ? await this.#shared.blocks.small(offset, length)
        : await this.#read(offset, length);
    this.#windows.set(index, window);
    for (const oldest of this.#windows.keys()) {
      if (this.#windows.size <= maxWindows) break;
      this.#windows.delete(oldest);
    }
    return window;
  }

  async #read(offset: number, length: number): Promise<Buffer> {
    const window = Buffer.allocUnsafeSlow(length);
    await this.into(window, offset);
    return window;
  }

  /** Puts what the journal has newer over what was read from the disk. */
  async #patch(target: Buffer, offset: number): Promise<void> {
    const copies = this.#copies;
    if (!copies || copies.size === 0) return;
    const size = this.#blockSize;
    const first = Math.floor(offset / size);
    const end = Math.ceil((offset + target.length) / size);
    // Whichever is less: the blocks of the piece, or those of the journal.
    const numbers = end - first <= copies.size ? range(first, end) : copies.between(first, end);
    for (const number of numbers) {
      if (!copies.has(number)) continue;
      const block = await copies.read(number);
      const at = number * size - offset;
      block.copy(target, Math.max(0, at), Math.max(0, -at), Math.min(size, target.length - at));
    }
  }
}

function* range(first: number, end: number): Generator<number> {
  for (let number = first; number < end; number += 1) yield number;
}
