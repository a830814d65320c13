import type { PageRange } from '../qemu-stream/encode.js';
import { PAGE_BYTES, type RamBlock } from '../qemu-stream/format.js';
import type { PageSource } from '../qemu-stream/page-source.js';
import { EXTENT_WORDS, type Extent, extentAt, extentsIn, ZERO } from './extents.js';
import type { LayerMap } from './layer-map.js';
import type { LayerReader, OpenLayer } from './layer-reader.js';

/** A machine's memory as a map and its layers describe it: any page of any block can be read. */
export class MemoryImage implements PageSource {
  readonly map: LayerMap;
  readonly #readers: readonly LayerReader[];

  private constructor(map: LayerMap, readers: readonly LayerReader[]) {
    this.map = map;
    this.#readers = readers;
  }

  /** Opens every layer the map refers to. @throws integrity when one is missing. */
  static async open(map: LayerMap, openLayer: OpenLayer): Promise<MemoryImage> {
    const opened = await Promise.allSettled(map.layers.map((id) => openLayer(id)));
    const readers = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const failed = opened.find((result) => result.status === 'rejected');
    if (!failed) return new MemoryImage(map, readers);
    await Promise.all(readers.map((reader) => reader.close()));
    throw failed.reason;
  }

  get blocks(): readonly RamBlock[] {
    return this.map.blocks;
  }

  dataRanges(block: number, startPage: number, pageCount: number): PageRange[] {
    const ranges: { startPage: number; pageCount: number }[] = [];
    for (const part of this.#extents(block, startPage, pageCount)) {
      if (part.layer === ZERO) continue;
      const last = ranges.at(-1);
      if (last && last.startPage + last.pageCount === part.startPage) last.pageCount += part.pageCount;
      else ranges.push({ startPage: part.startPage, pageCount: part.pageCount });
    }
    return ranges;
  }

  async read(
    block: number,
    startPage: number,
    pageCount: number,
    target: Buffer,
    signal?: AbortSignal,
  ): Promise<void> {
    for (const part of this.#extents(block, startPage, pageCount)) {
      const slice = sliceOf(target, startPage, part);
      const reader = this.#readers[part.layer];
      if (reader) await reader.read(slice, part.dataPage * PAGE_BYTES, signal);
      else slice.fill(0);
    }
  }

  /**
   * Fills `target` without verification, at once where every layer needed is local. For comparing.
   * @returns a promise only where a layer cannot be read at once.
   */
  readForCompare(
    block: number,
    startPage: number,
    pageCount: number,
    target: Buffer,
  ): Promise<void> | undefined {
    for (const part of this.#extents(block, startPage, pageCount)) {
      const slice = sliceOf(target, startPage, part);
      const reader = this.#readers[part.layer];
      if (!reader) slice.fill(0);
      else if (reader.readSync) reader.readSync(slice, part.dataPage * PAGE_BYTES);
      else return this.read(block, startPage, pageCount, target);
    }
    return undefined;
  }

  /**
   * Verifies the layers' data that `lists` of extents (one a block) refer to, ahead of the reads: work for the time
   * in which QEMU starts. Returns at once where there is nothing to verify.
   * @throws integrity when a layer is damaged.
   */
  async warm(lists: readonly Uint32Array[]): Promise<void> {
    for (const extents of lists)
      for (let index = 0; index < extents.length / EXTENT_WORDS; index += 1) {
        const { layer, dataPage, pageCount } = extentAt(extents, index);
        await this.#readers[layer]?.warm?.(dataPage * PAGE_BYTES, pageCount * PAGE_BYTES);
      }
  }

  /** Closes the layers. */
  async close(): Promise<void> {
    await Promise.all(this.#readers.map((reader) => reader.close()));
  }

  #extents(block: number, startPage: number, pageCount: number): Iterable<Extent> {
    return extentsIn(this.map.blocks[block]?.extents ?? new Uint32Array(0), startPage, pageCount);
  }
}

function sliceOf(target: Buffer, startPage: number, part: Extent): Buffer {
  const from = (part.startPage - startPage) * PAGE_BYTES;
  return target.subarray(from, from + part.pageCount * PAGE_BYTES);
}
