import type { FileHandle } from 'node:fs/promises';
import { CryoboxError } from '../errors.js';
import { PAGE_BYTES } from '../migration/format.js';
import type { PageSource } from '../migration/page-source.js';
import { ChunkFile } from './chunk-file.js';
import { ExtentBuilder, ZERO } from './extents.js';
import { type BlockMap, CHUNK_BYTES, flatStarts, type LayerMap, pagesOf } from './layer-map.js';
import { isZeroPage } from './page-compare.js';

/** Pages of one chunk. */
const chunkPages = CHUNK_BYTES / PAGE_BYTES;

/** What a flat data file is made of. */
export interface FlatOptions {
  /** The data file; it stays the caller's. */
  readonly data: FileHandle;
  readonly layerId: string;
  readonly source: PageSource;
  /** The file is there and holds the first block already: its pages are hashed, not written. */
  readonly firstBlockInPlace?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Writes a machine's whole memory as a flat data file: sparse, each page at its own offset, hashed chunk by chunk.
 * The map it returns is not yet written, and nothing synced.
 */
export async function writeFlat(options: FlatOptions): Promise<LayerMap> {
  const file = new ChunkFile(options.data, `the data of memory layer ${options.layerId}`);
  try {
    return await new FlatWriter(options, file).run();
  } catch (error) {
    await file.abandon();
    throw error;
  }
}

class FlatWriter {
  readonly #options: FlatOptions;
  readonly #file: ChunkFile;
  readonly #starts: readonly number[];
  readonly #extents: ExtentBuilder[];

  constructor(options: FlatOptions, file: ChunkFile) {
    this.#options = options;
    this.#file = file;
    this.#starts = flatStarts(options.source.blocks);
    this.#extents = options.source.blocks.map(() => new ExtentBuilder());
  }

  async run(): Promise<LayerMap> {
    const { source, signal, layerId } = this.#options;
    const totalPages = source.blocks.reduce((sum, block) => sum + pagesOf(block), 0);
    for (let page = 0; page < totalPages; page += chunkPages) {
      if (signal?.aborted) throw new CryoboxError('cancelled', `writing memory layer ${layerId}`);
      await this.#chunk(page, Math.min(page + chunkPages, totalPages));
    }
    const dataBytes = totalPages * PAGE_BYTES;
    const digests = await this.#file.finish(dataBytes);
    const blocks = source.blocks.map((block, index): BlockMap => {
      const extents = this.#extents[index]?.finish() ?? new Uint32Array(0);
      return { name: block.name, sizeBytes: block.sizeBytes, extents };
    });
    return { layers: [layerId], form: 'flat', generation: 0, dataBytes, blocks, digests };
  }

  /** Writes the pages `[from, end)` of the file, which may belong to several blocks. */
  async #chunk(from: number, end: number): Promise<void> {
    const parts = this.#partsOf(from, end);
    const { source } = this.#options;
    const hasData = parts.some((part) => source.dataRanges(part.block, part.page, part.count).length > 0);
    if (!hasData) {
      for (const part of parts) this.#extents[part.block]?.add(part.page, part.count, ZERO, 0);
      this.#file.addZero();
      return;
    }
    const chunk = await this.#file.chunk();
    const pieces: { start: number; end: number }[] = [];
    let allZero = true;
    for (const part of parts) {
      const start = (part.filePage - from) * PAGE_BYTES;
      const slice = chunk.subarray(start, start + part.count * PAGE_BYTES);
      await source.read(part.block, part.page, part.count, slice);
      const inPlace = part.block === 0 && this.#options.firstBlockInPlace === true;
      if (this.#note(part, slice, start, inPlace ? [] : pieces)) allZero = false;
    }
    const length = (end - from) * PAGE_BYTES;
    if (allZero) this.#file.add(chunk, length, []);
    else if (pieces.length === 0) this.#file.addExisting(chunk, length);
    else this.#file.add(chunk, length, pieces);
  }

  /** Notes each page as data or zero, and the pieces to be written. True when a page has data. */
  #note(part: Part, slice: Buffer, start: number, pieces: { start: number; end: number }[]): boolean {
    let found = false;
    for (let index = 0; index < part.count; index += 1) {
      const at = index * PAGE_BYTES;
      const zero = isZeroPage(slice, at);
      this.#extents[part.block]?.add(part.page + index, 1, zero ? ZERO : 0, part.filePage + index);
      if (zero) continue;
      found = true;
      const last = pieces.at(-1);
      if (last && last.end === start + at) last.end += PAGE_BYTES;
      else pieces.push({ start: start + at, end: start + at + PAGE_BYTES });
    }
    return found;
  }

  #partsOf(from: number, end: number): Part[] {
    return this.#options.source.blocks.flatMap((block, index) => {
      const start = this.#starts[index] ?? 0;
      const first = Math.max(from, start);
      const last = Math.min(end, start + pagesOf(block));
      if (first >= last) return [];
      return [{ block: index, page: first - start, count: last - first, filePage: first }];
    });
  }
}

/** Part of a chunk: pages of one block. */
interface Part {
  readonly block: number;
  readonly page: number;
  readonly count: number;
  readonly filePage: number;
}
