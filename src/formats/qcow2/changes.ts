/** Where two disks may differ, told by where their clusters are stored, without reading them. */
import { throwIfCancelled } from '../../base/abort.js';
import { Turns } from '../../base/turns.js';
import type { DiskChain } from './chain.js';
import { CLUSTER_BYTES, L2_ENTRIES, REGION_BYTES } from './format.js';
import type { Layer } from './layer.js';
import { ClusterSet } from './layout.js';
import { HOLE, type RegionMap, ZERO } from './region.js';

/** Guest bytes in which two disks may differ, in units of clusters: elsewhere they are certainly equal. */
export class ChangedRanges {
  readonly #clusters: ClusterSet;
  readonly #sizeBytes: number;

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#clusters = new ClusterSet(Math.ceil(sizeBytes / CLUSTER_BYTES));
  }

  /** Says that the disks may differ there. What lies behind their end is left out. */
  add(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#sizeBytes);
    for (let cluster = Math.floor(offset / CLUSTER_BYTES); cluster * CLUSTER_BYTES < end; cluster += 1) {
      this.#clusters.add(cluster);
    }
  }

  /** Whether the disks may differ anywhere there; behind the end of the longer one they never do. */
  touches(offset: number, length: number): boolean {
    const end = Math.min(offset + length, this.#sizeBytes);
    for (let cluster = Math.floor(offset / CLUSTER_BYTES); cluster * CLUSTER_BYTES < end; cluster += 1) {
      if (this.#clusters.has(cluster)) return true;
    }
    return false;
  }
}

/**
 * Compares where each cluster of two disks is stored. Clusters in the same place of the same open file are equal, and so
 * are two that no layer has data for. Both disks must come from one `openBoth`. One bit of memory for each 64 KiB. Throws
 * `disk_image_invalid` for damaged tables, `cancelled`.
 */
export async function findChanges(
  from: DiskChain,
  to: DiskChain,
  signal: AbortSignal | undefined,
): Promise<ChangedRanges> {
  const sizeBytes = Math.max(from.virtualSizeBytes, to.virtualSizeBytes);
  const changed = new ChangedRanges(sizeBytes);
  const sides = [sideOf(from), sideOf(to)] as const;
  const turns = new Turns();
  for (let index = 0; index * REGION_BYTES < sizeBytes; index += 1) {
    throwIfCancelled(signal, 'the comparison of two disks');
    const one = await regionOf(from, index);
    const other = await regionOf(to, index);
    const clusters = Math.min(L2_ENTRIES, Math.ceil(sizeBytes / CLUSTER_BYTES) - index * L2_ENTRIES);
    for (let j = 0; j < clusters; j += 1) {
      const at = index * REGION_BYTES + j * CLUSTER_BYTES;
      if (!samePlace(one, other, j, sides, at)) changed.add(at, CLUSTER_BYTES);
    }
    await turns.chunk();
  }
  return changed;
}

interface Side {
  readonly layers: readonly Layer[];
  /** How far each layer is visible: as far as the shortest one from it up. */
  readonly clips: readonly number[];
}

function sideOf({ layers }: DiskChain): Side {
  let clip = Number.POSITIVE_INFINITY;
  const clips = layers.map((layer) => {
    clip = Math.min(clip, layer.virtualSizeBytes);
    return clip;
  });
  return { layers, clips };
}

/** The map of a region; undefined behind the end of the disk, which is as good as zeros. */
async function regionOf(chain: DiskChain, index: number): Promise<RegionMap | undefined> {
  return index * REGION_BYTES < chain.virtualSizeBytes ? await chain.region(index) : undefined;
}

function samePlace(
  one: RegionMap | undefined,
  other: RegionMap | undefined,
  j: number,
  [a, b]: readonly [Side, Side],
  at: number,
): boolean {
  const kind = one?.kinds[j] ?? HOLE;
  const otherKind = other?.kinds[j] ?? HOLE;
  const isEmpty = kind === HOLE || kind === ZERO;
  if (isEmpty || !one || !other) return isEmpty && (otherKind === HOLE || otherKind === ZERO);
  if (kind !== otherKind || one.offsets[j] !== other.offsets[j]) return false;
  const [i, k] = [one.layers[j] ?? 0, other.layers[j] ?? 0];
  if (a.layers[i] !== b.layers[k]) return false;
  // A cluster that one disk shows less of, since a layer over it is shorter.
  const [clip, otherClip] = [a.clips[i] ?? 0, b.clips[k] ?? 0];
  return clip === otherClip || Math.min(clip, otherClip) >= at + CLUSTER_BYTES;
}
