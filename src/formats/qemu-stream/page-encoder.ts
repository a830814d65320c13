import { PAGE_BYTES, type RamBlock, ramFlag } from './format.js';
import type { SocketSink } from './sink.js';

/** Pages collected for one write: 64 pages are 260 KiB, about what the kernel takes from a unix socket at once. */
const pagesPerWrite = 64;
/** Longest record beside its page: 8 bytes of header, a length byte and a name of 255 bytes. */
const longestHeader = 8 + 1 + 255;
const bufferBytes = pagesPerWrite * (8 + PAGE_BYTES) + longestHeader;
/**
 * Buffers of an encoder: one is filled, the others wait for the kernel. A few waiting ones go out as soon as QEMU has read
 * on, without a turn of the event loop between them; 1.5 MiB in all.
 */
const maxBuffers = 6;

/**
 * Collects page records and writes them in large pieces, a few of them ahead of the reader. Records between `begin` and `flush` must lie in one part of the RAM section.
 */
export class PageEncoder {
  readonly #sink: SocketSink;
  #buffer: Buffer = Buffer.allocUnsafe(bufferBytes);
  readonly #free: Buffer[] = [];
  #buffers = 1;
  #used = 0;
  #block: RamBlock | undefined;
  /** Writes under way, oldest first; the kernel takes them in that order. */
  readonly #inFlight: Promise<void>[] = [];

  constructor(sink: SocketSink) {
    this.#sink = sink;
  }

  /** Puts the next record under its block's name again: called at the start of each part. */
  begin(): void {
    this.#block = undefined;
  }

  /** Appends raw bytes that are no page record, such as a part's start; at most a few hundred. */
  async raw(bytes: Buffer): Promise<void> {
    if (this.#used + bytes.length > bufferBytes) await this.#swap();
    this.#used += bytes.copy(this.#buffer, this.#used);
  }

  /** Appends `count` pages of a block whose content lies in `data` from `dataStart`. */
  async pages(block: RamBlock, startPage: number, count: number, data: Buffer, dataStart = 0): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      if (this.#used + longestHeader + PAGE_BYTES > bufferBytes) await this.#swap();
      this.#header(block, startPage + i, ramFlag.page);
      const from = dataStart + i * PAGE_BYTES;
      data.copy(this.#buffer, this.#used, from, from + PAGE_BYTES);
      this.#used += PAGE_BYTES;
    }
  }

  /** Appends `count` pages that are all zero. */
  async zeros(block: RamBlock, startPage: number, count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) {
      if (this.#used + longestHeader + 1 > bufferBytes) await this.#swap();
      this.#header(block, startPage + i, ramFlag.zero);
      this.#buffer[this.#used] = 0;
      this.#used += 1;
    }
  }

  /** Writes what is collected; returns when the kernel has taken everything. */
  async flush(): Promise<void> {
    if (this.#used > 0) await this.#swap();
    while (this.#inFlight.length > 0) await this.#inFlight.shift();
  }

  /** Hands the filled buffer over and goes on with an empty one. */
  async #swap(): Promise<void> {
    const buffer = this.#buffer;
    const write = this.#sink.write(buffer.subarray(0, this.#used)).then(() => {
      this.#free.push(buffer);
    });
    // A failure is reported by the await of this write; until then it must not count as unhandled.
    write.catch(() => undefined);
    this.#inFlight.push(write);
    while (this.#buffers === maxBuffers && this.#free.length === 0) await this.#inFlight.shift();
    this.#buffer = this.#free.pop() ?? this.#newBuffer();
    this.#used = 0;
  }

  #newBuffer(): Buffer {
    this.#buffers += 1;
    return Buffer.allocUnsafe(bufferBytes);
  }

  #header(block: RamBlock, page: number, flag: number): void {
    const offset = page * PAGE_BYTES;
    const same = this.#block === block;
    const low = ((offset & 0xffff_f000) | flag | (same ? ramFlag.sameBlock : 0)) >>> 0;
    this.#buffer.writeUInt32BE(Math.floor(offset / 2 ** 32), this.#used);
    this.#buffer.writeUInt32BE(low, this.#used + 4);
    this.#used += 8;
    if (same) return;
    this.#buffer[this.#used] = this.#buffer.write(block.name, this.#used + 1, 'utf8');
    this.#used += 1 + (this.#buffer[this.#used] ?? 0);
    this.#block = block;
  }
}
