/** Where the guest clusters of one 512 MiB region come from, merged over all layers of a chain. */
import type { SparseRange } from '../../base/gnu-sparse.js';
import {
  CLUSTER_BYTES,
  COMPRESSED_HIGH,
  COPIED_HIGH,
  invalidImage,
  L2_ENTRIES,
  OFFSET_HIGH_MASK,
  REGION_BYTES,
  SECTOR_BYTES,
} from './format.js';
import type { Layer } from './layer.js';

/** What {@link RegionMap.kinds} holds: in no layer; zeros by an L2 entry; a cluster of data; a compressed one. */
export const HOLE = 0;
export const ZERO = 1;
export const DATA = 2;
export const COMPRESSED = 3;

/** One merged region: arrays by cluster within the region. About 90 KiB. */
export interface RegionMap {
  /** {@link HOLE}, {@link ZERO}, {@link DATA} or {@link COMPRESSED}. */
  readonly kinds: Uint8Array;
  /** Index of the layer, for all but holes. */
  readonly layers: Uint8Array;
  /** Offset in the layer's file, for data and compressed clusters. */
  readonly offsets: Float64Array;
  /** For compressed clusters: 512-byte sectors they touch after the first. */
  readonly sectors: Uint8Array;
}

/**
 * Merges one region from the top layer down, until every cluster is found. `clips[i]` is how far layer `i` is
 * visible: what lies beyond the end of a layer above it reads as zeros. Throws `disk_image_invalid`.
 */
export async function loadRegion(
  layers: readonly Layer[],
  clips: readonly number[],
  index: number,
): Promise<RegionMap> {
  const region: RegionMap = {
    kinds: new Uint8Array(L2_ENTRIES),
    layers: new Uint8Array(L2_ENTRIES),
    offsets: new Float64Array(L2_ENTRIES),
    sectors: new Uint8Array(L2_ENTRIES),
  };
  const start = index * REGION_BYTES;
  for (const [i, layer] of layers.entries()) {
    const visible = Math.min(L2_ENTRIES, Math.ceil(((clips[i] ?? 0) - start) / CLUSTER_BYTES));
    if (visible <= 0) break;
    if (!layer.header) {
      for (const range of await layer.dataRanges()) mergeRaw(region, i, start, visible, range);
      break;
    }
    const table = await readL2Table(layer, index);
    if (table && mergeTable(region, table, layer, i, visible) === 0) break;
  }
  return region;
}

/**
 * A layer's L2 table as pairs of words (high, low) in host order, or undefined where the layer has none.
 * Throws `disk_image_invalid` for an L1 entry that is not the offset of a cluster of the file.
 */
async function readL2Table(layer: Layer, index: number): Promise<Uint32Array | undefined> {
  const l1 = await layer.l1Table();
  if (index * 2 >= l1.length) return undefined;
  const high = l1[index * 2] ?? 0;
  const low = l1[index * 2 + 1] ?? 0;
  if (high === 0 && low === 0) return undefined;
  const offset = (high & OFFSET_HIGH_MASK) * 2 ** 32 + low;
  const reserved = high & ~(COPIED_HIGH | OFFSET_HIGH_MASK);
  const inside = offset >= CLUSTER_BYTES && offset + CLUSTER_BYTES <= layer.fileSizeBytes;
  if (reserved !== 0 || offset % CLUSTER_BYTES !== 0 || !inside) {
    throw invalidImage(layer.name, `L1 entry ${index} is 0x${hex(high, low)}, no cluster of the file`);
  }
  return await layer.readWords(offset, CLUSTER_BYTES);
}

/** Takes what is still open from a stretch of data of a raw layer. */
function mergeRaw(
  region: RegionMap,
  layerIndex: number,
  start: number,
  visible: number,
  { offset, length }: SparseRange,
): void {
  const first = Math.max(0, Math.floor((offset - start) / CLUSTER_BYTES));
  const end = Math.min(visible, Math.ceil((offset + length - start) / CLUSTER_BYTES));
  for (let j = first; j < end; j += 1) {
    if (region.kinds[j] !== HOLE) continue;
    region.kinds[j] = DATA;
    region.layers[j] = layerIndex;
    region.offsets[j] = start + j * CLUSTER_BYTES;
  }
}

/** Takes what is still open from an L2 table; returns how many visible clusters stay open. */
function mergeTable(
  region: RegionMap,
  table: Uint32Array,
  layer: Layer,
  layerIndex: number,
  visible: number,
): number {
  const { kinds, layers } = region;
  let open = 0;
  for (let j = 0; j < visible; j += 1) {
    if (kinds[j] !== HOLE) continue;
    const high = table[j * 2] ?? 0;
    const low = table[j * 2 + 1] ?? 0;
    if (high === 0 && low === 0) {
      open += 1;
      continue;
    }
    layers[j] = layerIndex;
    if (high & COMPRESSED_HIGH) mergeCompressed(region, j, high, low, layer);
    else mergeStandard(region, j, high, low, layer);
  }
  return open;
}

/** Standard cluster descriptor: bit 0 zeros, bits 9 to 55 offset, bit 63 refcount is one. */
function mergeStandard(region: RegionMap, j: number, high: number, low: number, layer: Layer): void {
  const offset = (high & OFFSET_HIGH_MASK) * 2 ** 32 + ((low & ~1) >>> 0);
  const reserved = high & ~(COPIED_HIGH | OFFSET_HIGH_MASK);
  const zero = (low & 1) !== 0;
  const valid = offset === 0 ? zero : offset < layer.fileSizeBytes && offset % CLUSTER_BYTES === 0;
  if (reserved !== 0 || !valid) {
    throw invalidImage(layer.name, `L2 entry 0x${hex(high, low)} is no cluster of the file`);
  }
  region.kinds[j] = zero ? ZERO : DATA;
  region.offsets[j] = offset;
}

/** Compressed cluster descriptor at 64 KiB clusters: bits 0 to 53 offset in bytes, bits 54 to 61 more sectors. */
function mergeCompressed(region: RegionMap, j: number, high: number, low: number, layer: Layer): void {
  const offset = (high & 0x003f_ffff) * 2 ** 32 + low;
  if (offset < CLUSTER_BYTES || offset >= layer.fileSizeBytes || high & COPIED_HIGH) {
    throw invalidImage(layer.name, `compressed cluster 0x${hex(high, low)} lies outside the file`);
  }
  region.kinds[j] = COMPRESSED;
  region.offsets[j] = offset;
  region.sectors[j] = (high >>> 22) & 0xff;
}

/** Bytes from the start of a compressed cluster to the end of its last sector. */
export function compressedBytes(offset: number, sectors: number): number {
  return (sectors + 1) * SECTOR_BYTES - (offset % SECTOR_BYTES);
}

function hex(high: number, low: number): string {
  const digits = (word: number): string => (word >>> 0).toString(16).padStart(8, '0');
  return digits(high) + digits(low);
}
