import type { FileHandle } from 'node:fs/promises';
import { PAGE_BYTES } from '../qemu-stream/format.js';
import { ChunkFile } from './chunk-file.js';
import { CHUNK_BYTES } from './layer-map.js';

/** Writes the data file of a packed layer: pages one behind the other. Memory is bounded by {@link ChunkFile}. */
export class PackedWriter {
  readonly #file: ChunkFile;
  #chunk: Buffer | undefined;
  #used = 0;
  #pages = 0;

  /** Writes into an empty file, which stays the caller's. */
  constructor(data: FileHandle, layerId: string) {
    this.#file = new ChunkFile(data, `the data of memory layer ${layerId}`);
  }

  /** Pages written so far: the data page the next one gets. */
  get pages(): number {
    return this.#pages;
  }

  /** Appends the pages in `[start, end)` of `data`, which may be used again afterwards. */
  async append(data: Buffer, start: number, end: number): Promise<void> {
    let at = start;
    while (at < end) {
      this.#chunk ??= await this.#file.chunk();
      const copied = data.copy(this.#chunk, this.#used, at, end);
      at += copied;
      this.#used += copied;
      if (this.#used === CHUNK_BYTES) this.#close();
    }
    this.#pages += (end - start) / PAGE_BYTES;
  }

  /** Ends the data; who opened the file makes it durable. */
  async finish(): Promise<{ dataBytes: number; digests: Buffer }> {
    this.#close();
    const dataBytes = this.#pages * PAGE_BYTES;
    return { dataBytes, digests: await this.#file.finish(dataBytes) };
  }

  /** Gives up; the caller closes and removes the file. */
  async abandon(): Promise<void> {
    await this.#file.abandon();
  }

  #close(): void {
    if (this.#chunk && this.#used > 0)
      this.#file.add(this.#chunk, this.#used, [{ start: 0, end: this.#used }]);
    this.#chunk = undefined;
    this.#used = 0;
  }
}
