import { PAGE_BYTES } from '../migration/format.js';
import { ChunkFile } from './chunk-file.js';
import { CHUNK_BYTES } from './layer-map.js';

/** Writes the data file of a packed layer: pages one behind the other. Memory is bounded by {@link ChunkFile}. */
export class PackedWriter {
  readonly #file: ChunkFile;
  #chunk: Buffer | undefined;
  #used = 0;
  #pages = 0;

  private constructor(file: ChunkFile) {
    this.#file = file;
  }

  /** Creates the data file. @throws storage_error when it exists. */
  static async create(path: string, layerId: string): Promise<PackedWriter> {
    return new PackedWriter(await ChunkFile.open(path, 'create', `the data of memory layer ${layerId}`));
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

  /** Closes the file; whoever publishes the layer makes it durable. */
  async finish(): Promise<{ dataBytes: number; digests: Buffer }> {
    this.#close();
    const dataBytes = this.#pages * PAGE_BYTES;
    return { dataBytes, digests: await this.#file.finish(dataBytes) };
  }

  /** Gives up; the caller removes the file. */
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
