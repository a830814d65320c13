import { PAGE_BYTES, type RamBlock } from '../qemu-stream/format.js';
import { countPages, differingExtents, EXTENT_WORDS, overlayExtents, ZERO } from './extents.js';

/**
 * How a layer's data file is laid out. `packed`: the pages that differ from the parent, in address order. `flat`: the
 * whole memory, sparse, the first block at offset 0, so that QEMU can map the file, the other blocks behind it.
 */
export type LayerForm = 'packed' | 'flat';

/** Bytes of one hashed chunk of a data file. */
export const CHUNK_BYTES = 1024 * 1024;
/** Bytes of a chunk's SHA-256. */
export const DIGEST_BYTES = 32;
/**
 * Generations a map may reach before a background merge makes it flat: each one is an open file and a hash table in
 * every reader, and one more file to copy where layers travel.
 */
export const MAX_GENERATION = 8;

/**
 * Bytes of a difference above which a flat layer is worth its writing: streaming costs about 1 ms a MiB, so more
 * would add over 60 ms to each resume (docs/FORMATS.md, "Packed or flat").
 */
export const FLAT_ABOVE_BYTES = 64 * 1024 * 1024;
/**
 * Layers a map may refer to. Far above {@link MAX_GENERATION}, which only asks for a merge: a capture must not fail
 * because a merge is late.
 */
export const MAX_LAYERS = 64;

/** A RAM block and where each of its pages lies. */
export interface BlockMap extends RamBlock {
  readonly extents: Uint32Array;
}

/**
 * What a memory layer says: where every page of the machine lies, flattened over all generations. Immutable. Layer ids
 * are opaque; the reader's resolver turns them into paths.
 */
export interface LayerMap {
  /** `layers[0]` is the layer itself, the others are those its extents refer to. */
  readonly layers: readonly string[];
  readonly form: LayerForm;
  /** 0 for a whole image, one more than the parent's for a difference. */
  readonly generation: number;
  /** Length of the layer's own data file. */
  readonly dataBytes: number;
  readonly blocks: readonly BlockMap[];
  /** SHA-256 of each {@link CHUNK_BYTES} of the data file; all zero for a chunk that holds only zeros. */
  readonly digests: Uint8Array;
}

/** Pages of a block. */
export function pagesOf(block: RamBlock): number {
  return block.sizeBytes / PAGE_BYTES;
}

/** First page of each block in a flat data file. */
export function flatStarts(blocks: readonly RamBlock[]): number[] {
  const starts: number[] = [];
  let page = 0;
  for (const block of blocks) {
    starts.push(page);
    page += pagesOf(block);
  }
  return starts;
}

/** What a capture found: per block the extents that changed; layer 0 is the new layer, {@link ZERO} is zero. */
export interface LayerChanges {
  readonly layerId: string;
  readonly dataBytes: number;
  readonly digests: Uint8Array;
  /** One list for each block of the parent, in its order; sorted, without overlaps. */
  readonly changes: readonly Uint32Array[];
}

/** The map of a new packed layer: its changes over its parent's map. */
export function deriveMap(parent: LayerMap, own: LayerChanges): LayerMap {
  const shifted = parent.blocks.map((block) => translate(block.extents, (layer) => layer + 1));
  const blocks = parent.blocks.map((block, index) => ({
    name: block.name,
    sizeBytes: block.sizeBytes,
    extents: overlayExtents(shifted[index] ?? block.extents, own.changes[index] ?? new Uint32Array(0)),
  }));
  return compact({
    layers: [own.layerId, ...parent.layers],
    form: 'packed',
    generation: parent.generation + 1,
    dataBytes: own.dataBytes,
    blocks,
    digests: own.digests,
  });
}

/** Leaves out the layers no extent refers to; the layer itself stays first. */
export function compact(map: LayerMap): LayerMap {
  const used = new Set<number>([0]);
  for (const block of map.blocks)
    for (let at = 2; at < block.extents.length; at += EXTENT_WORDS) used.add(block.extents[at] ?? ZERO);
  const kept = map.layers.map((_, index) => index).filter((index) => used.has(index));
  if (kept.length === map.layers.length) return map;
  const position = new Map(kept.map((index, at) => [index, at]));
  return {
    ...map,
    layers: kept.map((index) => map.layers[index] ?? ''),
    blocks: map.blocks.map((block) => ({
      ...block,
      extents: translate(block.extents, (layer) => position.get(layer) ?? 0),
    })),
  };
}

/** The same extents with other layer numbers; zeros stay zeros. */
export function translate(extents: Uint32Array, layerOf: (layer: number) => number): Uint32Array {
  const out = extents.slice();
  for (let at = 2; at < out.length; at += EXTENT_WORDS) {
    const layer = out[at] ?? ZERO;
    if (layer !== ZERO) out[at] = layerOf(layer);
  }
  return out;
}

/** Translates layer numbers of `target` into those of `base`; -1 for a layer that `base` does not know. */
export function sourcesIn(base: LayerMap, target: LayerMap): (layer: number) => number {
  const known = new Map(base.layers.map((id, index) => [id, index]));
  const numbers = target.layers.map((id) => known.get(id) ?? -1);
  return (layer) => numbers[layer] ?? -1;
}

/**
 * Per block, the extents of `target` that must be sent to a machine that maps or knows `base`. The first block is
 * compared; the others are anonymous memory in every new machine and are sent whole.
 */
export function differenceFrom(target: LayerMap, base: LayerMap): Uint32Array[] {
  const baseLayer = sourcesIn(base, target);
  return target.blocks.map((block, index) => {
    const same = base.blocks[index];
    if (index > 0 || !same || same.sizeBytes !== block.sizeBytes) return block.extents;
    return differingExtents(block.extents, same.extents, baseLayer);
  });
}

/** Bytes of a map's pages that hold data, and of all its pages. */
export function measure(lists: readonly Uint32Array[]): { dataBytes: number; totalBytes: number } {
  let data = 0;
  let total = 0;
  for (const extents of lists) {
    const { pages, dataPages } = countPages(extents);
    data += dataPages;
    total += pages;
  }
  return { dataBytes: data * PAGE_BYTES, totalBytes: total * PAGE_BYTES };
}
