import { type FileHandle, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Progress, ProgressOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { syncDirectory, writeFully } from '../../base/files.js';
import { wrapHostError } from '../../errors.js';
import type { DiskChain } from './chain.js';
import { CLUSTER_BYTES, L2_ENTRIES, REGION_BYTES } from './format.js';
import {
  ClusterSet,
  encodeHead,
  encodeRefcountBlock,
  type ImageLayout,
  isStored,
  planLayout,
  type RegionLayout,
  writeL2Entry,
} from './layout.js';

/** Clusters read at once: 1 MiB. */
const BATCH_CLUSTERS = 16;
const BATCH_BYTES = BATCH_CLUSTERS * CLUSTER_BYTES;
/** A chunk keeps its bytes until two more have been given: those, the one given, and the one being read ahead. */
const RING_BUFFERS = 5;
const zeros = Buffer.alloc(BATCH_BYTES);

/** Options of {@link flatten}. */
export interface FlattenOptions extends ProgressOptions {
  /** What to flatten. Its layers must not change meanwhile. */
  readonly chain: DiskChain;
  /** The new file; it must not exist. */
  readonly path: string;
  /** Whether file and directory entry are fsynced before it returns. Default false. */
  readonly durable?: boolean;
}

/**
 * Writes a chain as one standalone qcow2 file: sparse, uncompressed, clusters of zeros left out. Needs about 10 MiB
 * of memory, plus 2 MiB per TiB of data. Throws `disk_image_invalid` for damaged layers, `disk_full`,
 * `storage_error`, `cancelled`; nothing is left then.
 */
export async function flatten(options: FlattenOptions): Promise<{ readonly sizeBytes: number }> {
  const what = `write disk image ${options.path}`;
  let handle: FileHandle | undefined;
  try {
    handle = await open(options.path, 'wx', 0o600);
    const layout = await planLayout(options.chain);
    await handle.truncate(layout.sizeBytes);
    for await (const chunk of imageChunks(options.chain, layout, options)) {
      if (chunk.bytes) await writeFully(handle, chunk.bytes, chunk.offset);
    }
    if (options.durable) await handle.sync();
    await handle.close();
    if (options.durable) await syncDirectory(dirname(options.path));
    return { sizeBytes: layout.sizeBytes };
  } catch (error) {
    if (handle) {
      await handle.close().catch(() => undefined);
      await rm(options.path, { force: true });
    }
    throw wrapHostError(error, what);
  }
}

/** A flattened image that is made while it is read. */
export interface FlattenedImage {
  /** Its exact length in bytes. */
  readonly sizeBytes: number;
  /**
   * The bytes, front to back, in chunks of at most 1 MiB; the same each time. Buffers are used again: a chunk keeps its
   * bytes only until two more have been given. Throws as {@link flatten}.
   */
  open(options?: ProgressOptions): AsyncIterable<Buffer>;
}

/** Plans the flattened image of a chain for streaming. The chain must stay open, its layers unchanged. */
export async function flattenStream(chain: DiskChain): Promise<FlattenedImage> {
  const layout = await planLayout(chain);
  return {
    sizeBytes: layout.sizeBytes,
    open: (options = {}) => streamImage(chain, layout, options),
  };
}

async function* streamImage(
  chain: DiskChain,
  layout: ImageLayout,
  options: ProgressOptions,
): AsyncGenerator<Buffer> {
  for await (const { bytes, length } of imageChunks(chain, layout, options)) {
    yield bytes ?? zeros.subarray(0, length);
  }
}

/** A piece of the new image; without bytes it is zeros. */
interface Chunk {
  readonly offset: number;
  readonly length: number;
  readonly bytes?: Buffer;
}

async function* imageChunks(
  chain: DiskChain,
  layout: ImageLayout,
  options: ProgressOptions,
): AsyncGenerator<Chunk> {
  const nextBuffer = bufferRing();
  const free = new ClusterSet(layout.totalClusters);
  const report = progressOf(layout, options);
  yield chunkAt(0, encodeHead(layout));
  for (const place of layout.regions) {
    const table = Buffer.alloc(CLUSTER_BYTES);
    let cluster = place.firstData;
    for await (const batch of readBatches(chain, place, nextBuffer)) {
      throwIfCancelled(options.signal, 'flattening a disk');
      for (const [i, index] of batch.clusters.entries()) {
        if (isZero(batch.bytes, i)) free.add(cluster + i);
        else writeL2Entry(table, index, cluster + i);
      }
      yield* runsOf(batch, cluster, free);
      cluster += batch.clusters.length;
      report(cluster * CLUSTER_BYTES);
    }
    yield chunkAt(place.l2Table, table);
  }
  for (let block = 0; layout.firstRefcountBlock + block < layout.totalClusters; block += 1) {
    yield chunkAt(layout.firstRefcountBlock + block, encodeRefcountBlock(layout, block, free));
  }
  report(layout.sizeBytes);
}

interface Batch {
  /** Which clusters of the region, in order. */
  readonly clusters: readonly number[];
  /** Their content, one after the other. */
  readonly bytes: Buffer;
}

/** The stored clusters of a region, up to 1 MiB at a time, reading one batch ahead. */
async function* readBatches(
  chain: DiskChain,
  place: RegionLayout,
  nextBuffer: () => Buffer,
): AsyncGenerator<Batch> {
  let ahead: Promise<Batch> | undefined;
  try {
    for await (const clusters of batchesOf(chain, place)) {
      const next = readBatch(chain, place.index, clusters, nextBuffer());
      // It is awaited in the next turn, or in the end; a failure until then is not an unhandled one.
      next.catch(() => undefined);
      const ready = ahead;
      ahead = next;
      if (ready) yield await ready;
    }
    if (ahead) yield await ahead;
  } finally {
    await ahead?.catch(() => undefined);
  }
}

async function* batchesOf(chain: DiskChain, place: RegionLayout): AsyncGenerator<readonly number[]> {
  const region = await chain.region(place.index);
  let batch: number[] = [];
  for (let j = 0; j < L2_ENTRIES; j += 1) {
    if (!isStored(region, j)) continue;
    batch.push(j);
    if (batch.length === BATCH_CLUSTERS) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}

/** Reads neighbouring clusters together. */
async function readBatch(
  chain: DiskChain,
  regionIndex: number,
  clusters: readonly number[],
  buffer: Buffer,
): Promise<Batch> {
  const bytes = buffer.subarray(0, clusters.length * CLUSTER_BYTES);
  const reads: Promise<void>[] = [];
  for (let from = 0; from < clusters.length; ) {
    const first = clusters[from] ?? 0;
    let to = from + 1;
    while (to < clusters.length && clusters[to] === first + (to - from)) to += 1;
    const guest = regionIndex * REGION_BYTES + first * CLUSTER_BYTES;
    const part = bytes.subarray(from * CLUSTER_BYTES, to * CLUSTER_BYTES);
    // The disk may end inside its last cluster.
    const inside = Math.min(part.length, chain.virtualSizeBytes - guest);
    part.fill(0, inside);
    reads.push(chain.readInto(part.subarray(0, inside), guest));
    from = to;
  }
  await Promise.all(reads);
  return { clusters, bytes };
}

/** The batch in as few pieces as its free clusters allow. */
function* runsOf(batch: Batch, firstCluster: number, free: ClusterSet): Generator<Chunk> {
  const count = batch.clusters.length;
  for (let from = 0; from < count; ) {
    const empty = free.has(firstCluster + from);
    let to = from + 1;
    while (to < count && free.has(firstCluster + to) === empty) to += 1;
    const bytes = batch.bytes.subarray(from * CLUSTER_BYTES, to * CLUSTER_BYTES);
    const offset = (firstCluster + from) * CLUSTER_BYTES;
    yield empty ? { offset, length: bytes.length } : { offset, length: bytes.length, bytes };
    from = to;
  }
}

/** Gives the same few buffers in turn: fresh ones would cost more in page faults than reading into them. */
function bufferRing(): () => Buffer {
  const ring: Buffer[] = [];
  let turn = 0;
  return () => {
    const slot = turn % RING_BUFFERS;
    turn += 1;
    const buffer = ring[slot] ?? Buffer.allocUnsafeSlow(BATCH_BYTES);
    ring[slot] = buffer;
    return buffer;
  };
}

function isZero(bytes: Buffer, cluster: number): boolean {
  const start = cluster * CLUSTER_BYTES;
  return bytes[start] === 0 && bytes.compare(zeros, 0, CLUSTER_BYTES, start, start + CLUSTER_BYTES) === 0;
}

function chunkAt(cluster: number, bytes: Buffer): Chunk {
  return { offset: cluster * CLUSTER_BYTES, length: bytes.length, bytes };
}

function progressOf(layout: ImageLayout, options: ProgressOptions): (doneBytes: number) => void {
  const { onProgress } = options;
  if (!onProgress) return () => undefined;
  return (doneBytes) => {
    const progress: Progress = { stage: 'flatten', doneBytes, totalBytes: layout.sizeBytes };
    onProgress(progress);
  };
}
