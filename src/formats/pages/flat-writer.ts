import type { FileHandle } from 'node:fs/promises';
import { CryoboxError } from '../../errors.js';
import type { PageRange } from '../qemu-stream/encode.js';
import { PAGE_BYTES } from '../qemu-stream/format.js';
import type { PageSource } from '../qemu-stream/page-source.js';
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
    const { source } = this.#options;
    const parts = this.#partsOf(from, end).map((part) => ({
      ...part,
      ranges: source.dataRanges(part.block, part.page, part.count),
    }));
    if (parts.every(({ ranges }) => ranges.length === 0)) {
      for (const part of parts) this.#zeros(part, part.page, part.page + part.count);
      this.#file.addZero();
      return;
    }
    const chunk = await this.#file.chunk();
    const length = (end - from) * PAGE_BYTES;
    chunk.fill(0, 0, length);
    const pieces: Piece[] = [];
    for (const part of parts) await this.#part(part, part.ranges, chunk, from, pieces);
    const inPlace = this.#options.firstBlockInPlace === true && parts[0]?.block === 0;
    if (pieces.length === 0) this.#file.add(chunk, length, []);
    else if (inPlace)
      this.#file.addExisting(
        chunk,
        length,
        pieces.filter((piece) => piece.block > 0),
      );
    else this.#file.add(chunk, length, pieces);
  }

  /** Reads a part's data into the chunk, notes each page as data or zero, and what must be written. */
  async #part(part: Part, ranges: PageRange[], chunk: Buffer, from: number, pieces: Piece[]): Promise<void> {
    const fileOffset = part.filePage - part.page;
    let page = part.page;
    for (const range of ranges) {
      this.#zeros(part, page, range.startPage);
      page = range.startPage + range.pageCount;
      const start = (range.startPage + fileOffset - from) * PAGE_BYTES;
      const slice = chunk.subarray(start, start + range.pageCount * PAGE_BYTES);
      await this.#options.source.read(part.block, range.startPage, range.pageCount, slice);
      for (let index = 0; index < range.pageCount; index += 1) {
        const at = start + index * PAGE_BYTES;
        const zero = isZeroPage(chunk, at);
        const own = range.startPage + index;
        this.#extents[part.block]?.add(own, 1, zero ? ZERO : 0, own + fileOffset);
        if (!zero) addPiece(pieces, part.block, at);
      }
    }
    this.#zeros(part, page, part.page + part.count);
  }

  #zeros(part: Part, page: number, end: number): void {
    this.#extents[part.block]?.add(page, end - page, ZERO, 0);
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

/** Bytes of a chunk that hold data, and whose they are. */
interface Piece {
  readonly start: number;
  end: number;
  readonly block: number;
}

function addPiece(pieces: Piece[], block: number, at: number): void {
  const last = pieces.at(-1);
  if (last && last.end === at && last.block === block) last.end += PAGE_BYTES;
  else pieces.push({ start: at, end: at + PAGE_BYTES, block });
}
