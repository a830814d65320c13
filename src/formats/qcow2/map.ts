import { CLUSTER_BYTES, REGION_BYTES } from './format.js';
import { COMPRESSED, compressedBytes, DATA, HOLE, type RegionMap, ZERO } from './region.js';

/** A stretch of guest bytes that come from one place. */
export interface DiskRange {
  /** Guest offset in bytes. */
  readonly offset: number;
  readonly length: number;
  /** `data`: bytes of a layer. `zero`: a layer says zeros. `hole`: in no layer; reads as zeros too. */
  readonly kind: 'data' | 'zero' | 'hole';
  /** Index of the layer (0 is the top); null for a hole. */
  readonly layer: number | null;
  /** Offset in the layer's file; null where nothing is stored. */
  readonly hostOffset: number | null;
  /** Bytes stored at `hostOffset` when the cluster is compressed, else null. Such a range is within one cluster. */
  readonly compressedBytes: number | null;
}

/** The ranges of guest bytes `from` up to `to`, all within one region, merged where they continue each other. */
export function* regionRanges(
  region: RegionMap,
  clips: readonly number[],
  from: number,
  to: number,
): Generator<DiskRange> {
  const start = Math.floor(from / REGION_BYTES) * REGION_BYTES;
  let at = from;
  while (at < to) {
    const first = Math.floor((at - start) / CLUSTER_BYTES);
    const kind = region.kinds[first] ?? HOLE;
    const count = kind === COMPRESSED ? 1 : runLength(region, first, Math.ceil((to - start) / CLUSTER_BYTES));
    const end = Math.min(to, start + (first + count) * CLUSTER_BYTES);
    const layer = region.layers[first] ?? 0;
    // A layer shorter than those above it may end inside its last cluster.
    const visible = kind === HOLE ? end : Math.min(end, clips[layer] ?? 0);
    if (visible > at) yield rangeOf(region, first, at, visible, start);
    if (visible < end) yield holeOf(Math.max(at, visible), end);
    at = end;
  }
}

/** Clusters from `first` on that continue it: same kind and layer, and for data the next place of the file. */
function runLength(region: RegionMap, first: number, limit: number): number {
  const { kinds, layers, offsets } = region;
  const kind = kinds[first];
  const layer = layers[first];
  let next = first + 1;
  if (kind === DATA) {
    let expected = (offsets[first] ?? 0) + CLUSTER_BYTES;
    while (next < limit && kinds[next] === DATA && layers[next] === layer && offsets[next] === expected) {
      next += 1;
      expected += CLUSTER_BYTES;
    }
  } else if (kind === HOLE) {
    while (next < limit && kinds[next] === HOLE) next += 1;
  } else {
    while (next < limit && kinds[next] === kind && layers[next] === layer) next += 1;
  }
  return next - first;
}

function rangeOf(region: RegionMap, first: number, from: number, to: number, start: number): DiskRange {
  const kind = region.kinds[first];
  if (kind === HOLE) return holeOf(from, to);
  const layer = region.layers[first] ?? 0;
  const length = to - from;
  if (kind === ZERO) {
    return { offset: from, length, kind: 'zero', layer, hostOffset: null, compressedBytes: null };
  }
  const stored = region.offsets[first] ?? 0;
  if (kind === COMPRESSED) {
    const bytes = compressedBytes(stored, region.sectors[first] ?? 0);
    return { offset: from, length, kind: 'data', layer, hostOffset: stored, compressedBytes: bytes };
  }
  const hostOffset = stored + (from - start - first * CLUSTER_BYTES);
  return { offset: from, length, kind: 'data', layer, hostOffset, compressedBytes: null };
}

function holeOf(from: number, to: number): DiskRange {
  return {
    offset: from,
    length: to - from,
    kind: 'hole',
    layer: null,
    hostOffset: null,
    compressedBytes: null,
  };
}

/** `next` appended to `range` where it continues it, else undefined. */
export function joinRanges(range: DiskRange, next: DiskRange): DiskRange | undefined {
  const continues =
    range.kind === next.kind &&
    range.layer === next.layer &&
    range.compressedBytes === null &&
    next.compressedBytes === null &&
    (range.hostOffset === null
      ? next.hostOffset === null
      : range.hostOffset + range.length === next.hostOffset);
  return continues ? { ...range, length: range.length + next.length } : undefined;
}
