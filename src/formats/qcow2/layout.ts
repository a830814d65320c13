/**
 * Where everything of a flattened image lies, decided before any data is read, so that the image can be written
 * front to back: header, L1 table, refcount table; then for each 512 MiB of guest disk its data clusters and its L2
 * table; the refcount blocks last. Clusters that turn out to be all zeros when they are read are left out of the
 * L2 table: their places stay in the file as free clusters, which is a hole in a file and next to nothing in a
 * compressed stream, and saves a pass over all data.
 */
import type { DiskChain } from './chain.js';
import { CLUSTER_BYTES, COPIED_HIGH, L2_ENTRIES, REFCOUNT_BLOCK_ENTRIES, REGION_BYTES } from './format.js';
import { encodeHeader } from './header.js';
import { COMPRESSED, DATA, type RegionMap } from './region.js';

/** A 512 MiB region that holds data. Places are in clusters of the new file. */
export interface RegionLayout {
  readonly index: number;
  readonly firstData: number;
  readonly dataClusters: number;
  readonly l2Table: number;
}

/** The plan of a flattened image. */
export interface ImageLayout {
  readonly virtualSizeBytes: number;
  readonly regions: readonly RegionLayout[];
  readonly firstRefcountBlock: number;
  readonly totalClusters: number;
  /** Length of the file, exactly. */
  readonly sizeBytes: number;
}

const L1_CLUSTER = 1;
const REFCOUNT_TABLE_CLUSTER = 2;
/** Header, L1 table and refcount table; one cluster is enough for each, see MAX_L1_ENTRIES. */
const HEAD_CLUSTERS = 3;

/** Whether a cluster's content has to be copied. */
export function isStored(region: RegionMap, cluster: number): boolean {
  const kind = region.kinds[cluster];
  return kind === DATA || kind === COMPRESSED;
}

/** Plans the flattened image of a chain. Reads the tables of all layers, no data. */
export async function planLayout(chain: DiskChain): Promise<ImageLayout> {
  const regions: RegionLayout[] = [];
  let next = HEAD_CLUSTERS;
  for (let index = 0; index * REGION_BYTES < chain.virtualSizeBytes; index += 1) {
    const region = await chain.region(index);
    let dataClusters = 0;
    for (let j = 0; j < L2_ENTRIES; j += 1) if (isStored(region, j)) dataClusters += 1;
    if (dataClusters === 0) continue;
    regions.push({ index, firstData: next, dataClusters, l2Table: next + dataClusters });
    next += dataClusters + 1;
  }
  let totalClusters = next + 1;
  while (next + Math.ceil(totalClusters / REFCOUNT_BLOCK_ENTRIES) > totalClusters) totalClusters += 1;
  return {
    virtualSizeBytes: chain.virtualSizeBytes,
    regions,
    firstRefcountBlock: next,
    totalClusters,
    sizeBytes: totalClusters * CLUSTER_BYTES,
  };
}

/** The first three clusters of the image. */
export function encodeHead(layout: ImageLayout): Buffer {
  const head = Buffer.alloc(HEAD_CLUSTERS * CLUSTER_BYTES);
  encodeHeader({
    virtualSizeBytes: layout.virtualSizeBytes,
    backing: null,
    l1Entries: Math.ceil(layout.virtualSizeBytes / REGION_BYTES),
    l1Offset: L1_CLUSTER * CLUSTER_BYTES,
    refcountTableOffset: REFCOUNT_TABLE_CLUSTER * CLUSTER_BYTES,
    refcountTableClusters: 1,
    compressionType: 'deflate',
    dirty: false,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    extensions: [],
  }).copy(head);
  for (const { index, l2Table } of layout.regions) {
    writeEntry(head, L1_CLUSTER * CLUSTER_BYTES + index * 8, l2Table, COPIED_HIGH);
  }
  for (let block = layout.firstRefcountBlock; block < layout.totalClusters; block += 1) {
    const at = REFCOUNT_TABLE_CLUSTER * CLUSTER_BYTES + (block - layout.firstRefcountBlock) * 8;
    writeEntry(head, at, block, 0);
  }
  return head;
}

/** Writes a reference to a cluster of the file as an L2 entry into a table. */
export function writeL2Entry(table: Buffer, entry: number, cluster: number): void {
  writeEntry(table, entry * 8, cluster, COPIED_HIGH);
}

/** One refcount block: one for each cluster of the file, none for those that were left free. */
export function encodeRefcountBlock(layout: ImageLayout, block: number, free: ClusterSet): Buffer {
  const bytes = Buffer.alloc(CLUSTER_BYTES);
  const first = block * REFCOUNT_BLOCK_ENTRIES;
  const count = Math.min(REFCOUNT_BLOCK_ENTRIES, layout.totalClusters - first);
  for (let i = 0; i < count; i += 1) if (!free.has(first + i)) bytes[i * 2 + 1] = 1;
  return bytes;
}

/** A set of clusters of a file: one bit each. */
export class ClusterSet {
  readonly #bits: Uint8Array;

  constructor(clusters: number) {
    this.#bits = new Uint8Array(Math.ceil(clusters / 8));
  }

  /** Puts a cluster in. */
  add(cluster: number): void {
    this.#bits[cluster >> 3] = (this.#bits[cluster >> 3] ?? 0) | (1 << (cluster & 7));
  }

  /** Whether a cluster is in. */
  has(cluster: number): boolean {
    return ((this.#bits[cluster >> 3] ?? 0) & (1 << (cluster & 7))) !== 0;
  }
}

function writeEntry(table: Buffer, at: number, cluster: number, high: number): void {
  const offset = cluster * CLUSTER_BYTES;
  table.writeUInt32BE((high | Math.floor(offset / 2 ** 32)) >>> 0, at);
  table.writeUInt32BE(offset >>> 0, at + 4);
}
