import { CryoboxError } from '../../errors.js';
import { decompressClusters } from './decompress.js';
import { CLUSTER_BYTES, REGION_BYTES } from './format.js';
import type { Layer } from './layer.js';
import { type DiskRange, joinRanges, regionRanges } from './map.js';
import { loadRegion, type RegionMap } from './region.js';

/** Merged regions kept: 64 of 90 KiB (under 6 MiB) map 32 GiB of guest disk. */
const MAX_CACHED_REGIONS = 64;
/** Guest bytes worked on at once; bounds the reads in flight and the memory for compressed clusters. */
const STEP_BYTES = 2 * 1024 * 1024;

/**
 * Reads guest data through a chain. The tables of all layers are merged once per 512 MiB region, so a read is one
 * lookup however deep the chain is. The layers must not change meanwhile.
 */
export class GuestReader {
  readonly #layers: readonly Layer[];
  readonly #clips: readonly number[];
  readonly #sizeBytes: number;
  /** By region index, least recently used first. */
  readonly #regions = new Map<number, Promise<RegionMap>>();

  constructor(layers: readonly Layer[], sizeBytes: number) {
    this.#layers = layers;
    this.#sizeBytes = sizeBytes;
    let clip = Number.POSITIVE_INFINITY;
    this.#clips = layers.map((layer) => {
      clip = Math.min(clip, layer.virtualSizeBytes);
      return clip;
    });
  }

  /** See {@link DiskChain.mapRanges}. */
  async *ranges(offset: number, length: number): AsyncGenerator<DiskRange> {
    const end = this.#checkedEnd(offset, length);
    let pending: DiskRange | undefined;
    for (let at = offset; at < end; at = nextRegion(at)) {
      for (const range of await this.#rangesOfRegion(at, Math.min(end, nextRegion(at)))) {
        const joined = pending && joinRanges(pending, range);
        if (pending && !joined) yield pending;
        pending = joined ?? range;
      }
    }
    if (pending) yield pending;
  }

  /** The merged map of one region; see {@link RegionMap}. */
  async region(index: number): Promise<RegionMap> {
    let region = this.#regions.get(index);
    if (region) this.#regions.delete(index);
    else region = loadRegion(this.#layers, this.#clips, index);
    this.#regions.set(index, region);
    for (const oldest of this.#regions.keys()) {
      if (this.#regions.size <= MAX_CACHED_REGIONS) break;
      this.#regions.delete(oldest);
    }
    try {
      return await region;
    } catch (error) {
      this.#regions.delete(index);
      throw error;
    }
  }

  /** See {@link DiskChain.read}. */
  async read(offset: number, length: number): Promise<Buffer> {
    this.#checkedEnd(offset, length);
    const target = Buffer.allocUnsafe(length);
    await this.readInto(target, offset);
    return target;
  }

  /** See {@link DiskChain.readInto}. */
  async readInto(target: Uint8Array, offset: number): Promise<void> {
    const end = this.#checkedEnd(offset, target.length);
    for (let at = offset; at < end; ) {
      const to = Math.min(end, nextRegion(at), at + STEP_BYTES);
      await this.#readStep(target.subarray(at - offset, to - offset), at, to);
      at = to;
    }
  }

  async #readStep(target: Uint8Array, from: number, to: number): Promise<void> {
    const reads: Promise<void>[] = [];
    const compressed: DiskRange[] = [];
    for (const range of await this.#rangesOfRegion(from, to)) {
      const part = target.subarray(range.offset - from, range.offset - from + range.length);
      if (range.kind !== 'data') part.fill(0);
      else if (range.compressedBytes !== null) compressed.push(range);
      else reads.push(this.#layerOf(range).read(part, range.hostOffset ?? 0));
    }
    await Promise.all(reads);
    if (compressed.length > 0) await this.#readCompressed(compressed, target, from);
  }

  async #readCompressed(ranges: readonly DiskRange[], target: Uint8Array, from: number): Promise<void> {
    const byLayer = new Map<Layer, DiskRange[]>();
    for (const range of ranges) {
      const layer = this.#layerOf(range);
      byLayer.set(layer, [...(byLayer.get(layer) ?? []), range]);
    }
    for (const [layer, mine] of byLayer) {
      const stored = await Promise.all(mine.map((range) => storedBytes(layer, range)));
      const type = layer.qcow2Header().compressionType;
      const clusters = await decompressClusters(type, stored, layer.name);
      for (const [i, range] of mine.entries()) {
        const skip = range.offset % CLUSTER_BYTES;
        target.set(
          clusters[i]?.subarray(skip, skip + range.length) ?? Buffer.alloc(range.length),
          range.offset - from,
        );
      }
    }
  }

  async #rangesOfRegion(from: number, to: number): Promise<Iterable<DiskRange>> {
    const region = await this.region(Math.floor(from / REGION_BYTES));
    return regionRanges(region, this.#clips, from, to);
  }

  #layerOf(range: DiskRange): Layer {
    const layer = range.layer === null ? undefined : this.#layers[range.layer];
    if (!layer) throw new CryoboxError('internal', `no layer ${range.layer} in the chain`);
    return layer;
  }

  #checkedEnd(offset: number, length: number): number {
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!valid || offset + length > this.#sizeBytes) {
      const asked = `${length} bytes at ${offset}`;
      throw new CryoboxError('invalid_argument', `${asked} lie outside the disk of ${this.#sizeBytes} bytes`);
    }
    return offset + length;
  }
}

async function storedBytes(layer: Layer, range: DiskRange): Promise<Buffer> {
  const bytes = Buffer.alloc(range.compressedBytes ?? 0);
  await layer.read(bytes, range.hostOffset ?? 0);
  return bytes;
}

function nextRegion(at: number): number {
  return (Math.floor(at / REGION_BYTES) + 1) * REGION_BYTES;
}
