/**
 * A memory as it travels: one packed layer, generation 0, that needs no other. Its data file holds every page that is
 * not zero, in address order, first block first; its map is an ordinary one (map-file.ts).
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { PAGE_BYTES } from '../qemu-stream/format.js';
import { EXTENT_WORDS, ExtentBuilder, extentAt, ZERO } from './extents.js';
import { maxSmallBlockBytes } from './golden.js';
import type { LayerPaths } from './layer-files.js';
import { type BlockMap, CHUNK_BYTES, DIGEST_BYTES, type LayerMap, measure } from './layer-map.js';
import { localLayers } from './local-layer.js';
import { encodeMap, readMap } from './map-file.js';
import { MemoryImage } from './memory-image.js';
import { makeFlat } from './merge.js';

/** The layer's id in its map; where it is taken in it becomes a layer with an id of its own. */
const portableId = 'portable';

const chunkPages = CHUNK_BYTES / PAGE_BYTES;
/** Chunks that are filled in turn: who reads may still use the last two. */
const chunksInTurn = 4;
/** Everything of a map but its extents and digests: names of 1 layer and 256 blocks, and their sizes. */
const mapTablesBytes = 128 * 1024;

/** A memory that is about to travel. */
export interface PortableLayer {
  /** Exactly what `pages` gives. */
  readonly pagesBytes: number;
  /** Length of what `map` gives. */
  readonly mapBytes: number;
  /**
   * The data file, in pieces of a MiB; a piece keeps its bytes until two more have been given. To be read once.
   * Throws `integrity` when a layer of the memory is damaged, `cancelled`.
   */
  pages(signal?: AbortSignal): AsyncGenerator<Buffer>;
  /** The map file, once `pages` has ended: it holds the hashes of what was read. */
  map(): Buffer;
}

/** Makes a memory ready to travel. The image stays the caller's, and open until the pages have been read. */
export function portableLayer(image: MemoryImage): PortableLayer {
  const digests = Buffer.alloc(chunksOf(image.map) * DIGEST_BYTES);
  const map = wholeMap(image.map, digests);
  return {
    pagesBytes: map.dataBytes,
    mapBytes: encodeMap(map).length,
    pages: (signal) => packedPages(image, map, digests, signal),
    map: () => encodeMap(map),
  };
}

/** Most bytes of the two files of a portable layer of a machine with `ramBytes` of RAM. */
export function portableLimits(ramBytes: number): { readonly pagesBytes: number; readonly mapBytes: number } {
  const pagesBytes = ramBytes + maxSmallBlockBytes;
  const extents = (pagesBytes / PAGE_BYTES) * EXTENT_WORDS * Uint32Array.BYTES_PER_ELEMENT;
  return { pagesBytes, mapBytes: mapTablesBytes + extents + (pagesBytes / CHUNK_BYTES) * DIGEST_BYTES };
}

/**
 * Takes in a portable layer that nobody vouches for, as a new flat layer. Its map is checked, and every MiB of its data
 * while it is read. Durable when it returns; after a failure nothing is left. The files it came in stay the caller's.
 * @throws integrity when it is damaged, no portable layer, or not of a machine with `ramBytes` of RAM; cancelled;
 * disk_full or storage_error.
 */
export async function adoptPortable(options: {
  readonly from: LayerPaths;
  readonly to: LayerPaths;
  readonly layerId: string;
  readonly ramBytes: number;
  readonly signal?: AbortSignal;
}): Promise<LayerMap> {
  const { from, to, layerId, ramBytes, signal } = options;
  const map = await readMap(from.map, portableId);
  const fault = portableFault(map, ramBytes) ?? (await lengthFault(from, map));
  if (fault) throw new CryoboxError('integrity', `portable memory: ${fault}`);
  const image = await MemoryImage.open(
    map,
    localLayers(() => from),
  );
  try {
    return await makeFlat({ image, paths: to, layerId, signal });
  } finally {
    await image.close();
  }
}

function wholeMap(source: LayerMap, digests: Buffer): LayerMap {
  let nextPage = 0;
  const blocks = source.blocks.map(({ name, sizeBytes, extents }): BlockMap => {
    const own = new ExtentBuilder();
    for (let index = 0; index < extents.length / EXTENT_WORDS; index += 1) {
      const { startPage, pageCount, layer } = extentAt(extents, index);
      const isZero = layer === ZERO;
      own.add(startPage, pageCount, isZero ? ZERO : 0, nextPage);
      if (!isZero) nextPage += pageCount;
    }
    return { name, sizeBytes, extents: own.finish() };
  });
  const dataBytes = nextPage * PAGE_BYTES;
  return { layers: [portableId], form: 'packed', generation: 0, dataBytes, blocks, digests };
}

function chunksOf(map: LayerMap): number {
  return Math.ceil(measure(map.blocks.map(({ extents }) => extents)).dataBytes / CHUNK_BYTES);
}

async function* packedPages(
  image: MemoryImage,
  map: LayerMap,
  digests: Buffer,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const chunks = Array.from({ length: chunksInTurn }, () => Buffer.allocUnsafeSlow(CHUNK_BYTES));
  let number = 0;
  let usedPages = 0;
  const current = (): Buffer => chunks[number % chunksInTurn] ?? Buffer.alloc(0);
  const take = (): Buffer => {
    const chunk = current().subarray(0, usedPages * PAGE_BYTES);
    createHash('sha256')
      .update(chunk)
      .digest()
      .copy(digests, number * DIGEST_BYTES);
    number += 1;
    usedPages = 0;
    return chunk;
  };
  for (const { block, startPage, pageCount } of dataRuns(map)) {
    for (let done = 0; done < pageCount; ) {
      const count = Math.min(pageCount - done, chunkPages - usedPages);
      const from = usedPages * PAGE_BYTES;
      const target = current().subarray(from, from + count * PAGE_BYTES);
      await image.read(block, startPage + done, count, target, signal);
      done += count;
      usedPages += count;
      if (usedPages === chunkPages) yield take();
    }
  }
  if (usedPages > 0) yield take();
}

/** The runs of pages with data, in the order of the data file. */
function* dataRuns(map: LayerMap): Generator<{ block: number; startPage: number; pageCount: number }> {
  for (const [block, { extents }] of map.blocks.entries())
    for (let index = 0; index < extents.length / EXTENT_WORDS; index += 1) {
      const { startPage, pageCount, layer } = extentAt(extents, index);
      if (layer !== ZERO) yield { block, startPage, pageCount };
    }
}

/** What keeps a valid map from being a portable one of that much RAM, or undefined. */
function portableFault(map: LayerMap, ramBytes: number): string | undefined {
  if (map.layers.length !== 1 || map.form !== 'packed' || map.generation !== 0)
    return 'expected one packed layer that needs no other';
  const [ram, ...small] = map.blocks;
  if (ram?.sizeBytes !== ramBytes) return `expected ${ramBytes} bytes of RAM, got ${ram?.sizeBytes}`;
  const smallBytes = small.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (smallBytes > maxSmallBlockBytes)
    return `expected at most ${maxSmallBlockBytes} bytes beside the RAM, got ${smallBytes}`;
  // Each page of the file is used once, in order: no small file can stand for a large memory.
  let nextPage = 0;
  for (const { extents } of map.blocks)
    for (let index = 0; index < extents.length / EXTENT_WORDS; index += 1) {
      const { layer, dataPage, pageCount } = extentAt(extents, index);
      if (layer === ZERO) continue;
      if (dataPage !== nextPage) return `expected page ${nextPage} of the data, got ${dataPage}`;
      nextPage += pageCount;
    }
  return nextPage * PAGE_BYTES === map.dataBytes ? undefined : 'there is data that no page refers to';
}

async function lengthFault({ pages }: LayerPaths, { dataBytes }: LayerMap): Promise<string | undefined> {
  try {
    const { size } = await stat(pages);
    return size === dataBytes ? undefined : `expected ${dataBytes} bytes of data, got ${size}`;
  } catch (error) {
    throw wrapHostError(error, 'reading portable memory');
  }
}
