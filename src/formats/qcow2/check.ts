/** Whether an image's refcounts agree with what refers to its clusters. */
import { basename } from 'node:path';
import { Turns } from '../../base/turns.js';
import {
  CLUSTER_BYTES,
  COMPRESSED_HIGH,
  COPIED_HIGH,
  invalidImage,
  OFFSET_HIGH_MASK,
  REFCOUNT_BLOCK_ENTRIES,
  SECTOR_BYTES,
} from './format.js';
import { type Layer, openLayer } from './layer.js';
import { compressedBytes } from './region.js';

/** What is wrong with an image. */
interface ImageProblem {
  /** `corruption` can lose data; `leak` only wastes space. */
  readonly kind: 'corruption' | 'leak';
  readonly message: string;
}

/** What {@link checkImage} found. */
export interface ImageCheck {
  /** The first 100 problems. */
  readonly problems: readonly ImageProblem[];
  readonly corruptions: number;
  readonly leaks: number;
  /** Clusters of data, zero clusters that keep their place included. */
  readonly dataClusters: number;
  readonly compressedClusters: number;
  /** Written last by something that did not close it, and refcounts may lag (lazy refcounts). */
  readonly dirty: boolean;
}

/** L1 and L2 entries: bits that mean nothing (high word of bits 56 to 61; bit 62 means nothing in an L1 entry). */
const RESERVED_HIGH = ~(COPIED_HIGH | OFFSET_HIGH_MASK);
/** Enough to see what happened, bounded whatever the file holds. */
const MAX_PROBLEMS_LISTED = 100;
/** A file of 2 TiB; its reference counts take 96 MiB while it is checked. */
const MAX_FILE_CLUSTERS = 2 ** 25;

/**
 * Checks refcounts, references outside the file and clusters used twice, as `qemu-img check` does. Reads tables only.
 * Throws `disk_image_invalid` when the header is refused or the file is larger than 2 TiB, and `storage_error`.
 */
export async function checkImage(path: string): Promise<ImageCheck> {
  const layer = await openLayer({ path, name: basename(path), format: 'qcow2' });
  try {
    const check = new Check(layer);
    return await check.run();
  } finally {
    await layer.close();
  }
}

class Check {
  readonly #layer: Layer;
  readonly #clusters: number;
  /** References to each cluster of the file. */
  readonly #references: Uint16Array;
  /** Clusters that may be referred to only once: tables and uncompressed data. */
  readonly #exclusive: Uint8Array;
  readonly #problems: ImageProblem[] = [];
  #corruptions = 0;
  #leaks = 0;
  #dataClusters = 0;
  #compressedClusters = 0;

  constructor(layer: Layer) {
    this.#layer = layer;
    this.#clusters = Math.ceil(layer.fileSizeBytes / CLUSTER_BYTES);
    if (this.#clusters > MAX_FILE_CLUSTERS) {
      throw invalidImage(layer.name, `${layer.fileSizeBytes} bytes are too many to check`);
    }
    this.#references = new Uint16Array(this.#clusters);
    this.#exclusive = new Uint8Array(this.#clusters);
  }

  async run(): Promise<ImageCheck> {
    const header = this.#layer.qcow2Header();
    this.#refer(0, 1, 'the header');
    this.#refer(header.l1Offset, Math.ceil((header.l1Entries * 8) / CLUSTER_BYTES), 'the L1 table');
    this.#refer(header.refcountTableOffset, header.refcountTableClusters, 'the refcount table');
    const blocks = await this.#refcountBlocks();
    const copied = await this.#walkTables();
    await this.#compare(blocks, copied);
    return {
      problems: this.#problems,
      corruptions: this.#corruptions,
      leaks: this.#leaks,
      dataClusters: this.#dataClusters,
      compressedClusters: this.#compressedClusters,
      dirty: header.dirty,
    };
  }

  /** Offsets of the refcount blocks, 0 where there is none or it lies outside. */
  async #refcountBlocks(): Promise<Float64Array> {
    const header = this.#layer.qcow2Header();
    const length = header.refcountTableClusters * CLUSTER_BYTES;
    const words = await this.#layer.readWords(header.refcountTableOffset, length);
    const blocks = new Float64Array(words.length / 2);
    for (let i = 0; i < blocks.length; i += 1) {
      const offset = (words[i * 2] ?? 0) * 2 ** 32 + (words[i * 2 + 1] ?? 0);
      if (offset !== 0 && this.#refer(offset, 1, `refcount block ${i}`)) blocks[i] = offset;
    }
    return blocks;
  }

  /** Counts references from L1 and L2 tables; returns which clusters are marked as used once (COPIED). */
  async #walkTables(): Promise<Uint8Array> {
    const copied = new Uint8Array(this.#clusters);
    const l1 = await this.#layer.l1Table();
    const turns = new Turns();
    for (let i = 0; i * 2 < l1.length; i += 1) {
      const high = l1[i * 2] ?? 0;
      const low = l1[i * 2 + 1] ?? 0;
      if (high === 0 && low === 0) continue;
      const offset = (high & OFFSET_HIGH_MASK) * 2 ** 32 + low;
      if (offset === 0 || high & RESERVED_HIGH) {
        this.#corrupt(() => `L1 entry ${i} is no offset`);
        continue;
      }
      if (!this.#refer(offset, 1, `L2 table ${i}`)) continue;
      if (high & COPIED_HIGH) copied[offset / CLUSTER_BYTES] = 1;
      const table = await this.#layer.readWords(offset, CLUSTER_BYTES);
      for (let j = 0; j < table.length; j += 2) {
        this.#walkEntry(table[j] ?? 0, table[j + 1] ?? 0, copied);
      }
      await turns.chunk();
    }
    return copied;
  }

  #walkEntry(high: number, low: number, copied: Uint8Array): void {
    if (high === 0 && low === 0) return;
    if (high & COMPRESSED_HIGH) {
      this.#compressedClusters += 1;
      this.#referCompressed((high & 0x003f_ffff) * 2 ** 32 + low, (high >>> 22) & 0xff);
      if (high & COPIED_HIGH) this.#corrupt(() => 'a compressed cluster is marked as used once');
      return;
    }
    const offset = (high & OFFSET_HIGH_MASK) * 2 ** 32 + ((low & ~1) >>> 0);
    const isZero = (low & 1) !== 0;
    if (high & RESERVED_HIGH || (offset === 0 && !isZero)) {
      this.#corrupt(() => 'an L2 entry has bits that mean nothing, or no offset');
      return;
    }
    if (offset === 0) return;
    this.#dataClusters += 1;
    if (this.#refer(offset, 1, 'a data cluster') && high & COPIED_HIGH) copied[offset / CLUSTER_BYTES] = 1;
  }

  #referCompressed(offset: number, sectors: number): void {
    const end = offset + compressedBytes(offset, sectors);
    const first = Math.floor((offset - (offset % SECTOR_BYTES)) / CLUSTER_BYTES);
    const last = Math.floor((end - 1) / CLUSTER_BYTES);
    if (first === 0 || last >= this.#clusters) {
      this.#corrupt(() => `a compressed cluster at ${offset} lies outside the file`);
      return;
    }
    for (let cluster = first; cluster <= last; cluster += 1) this.#count(cluster);
  }

  /** Counts clusters that nothing else may use; false when they lie outside the file. */
  #refer(offset: number, clusters: number, what: string): boolean {
    const first = offset / CLUSTER_BYTES;
    if (!Number.isInteger(first) || first + clusters > this.#clusters) {
      this.#corrupt(() => `${what} at ${offset} is not aligned or lies outside the file`);
      return false;
    }
    for (let cluster = first; cluster < first + clusters; cluster += 1) {
      this.#count(cluster);
      this.#exclusive[cluster] = 1;
    }
    return true;
  }

  #count(cluster: number): void {
    const references = this.#references[cluster] ?? 0;
    if (references < 0xffff) this.#references[cluster] = references + 1;
  }

  async #compare(blocks: Float64Array, copied: Uint8Array): Promise<void> {
    const bytes = Buffer.allocUnsafe(CLUSTER_BYTES);
    const turns = new Turns();
    for (let first = 0; first < this.#clusters; first += REFCOUNT_BLOCK_ENTRIES) {
      const offset = blocks[first / REFCOUNT_BLOCK_ENTRIES] ?? 0;
      if (offset === 0) bytes.fill(0);
      else await this.#layer.read(bytes, offset);
      const count = Math.min(REFCOUNT_BLOCK_ENTRIES, this.#clusters - first);
      for (let i = 0; i < count; i += 1) {
        this.#compareCluster(first + i, bytes.readUInt16BE(i * 2), copied[first + i] === 1);
      }
      await turns.chunk();
    }
  }

  #compareCluster(cluster: number, refcount: number, copied: boolean): void {
    const references = this.#references[cluster] ?? 0;
    const exclusive = this.#exclusive[cluster] === 1;
    if (references > 1 && exclusive) {
      this.#corrupt(() => `cluster ${cluster} has ${references} users and may have one`);
    }
    if (refcount < references) {
      this.#corrupt(() => `cluster ${cluster} has refcount ${refcount} and ${references} references`);
    } else if (refcount > references) {
      this.#leaks += 1;
      this.#list('leak', () => `cluster ${cluster} has refcount ${refcount} and ${references} references`);
    }
    if (copied && refcount !== 1) {
      this.#corrupt(() => `cluster ${cluster} is marked as used once and has refcount ${refcount}`);
    }
  }

  #corrupt(message: () => string): void {
    this.#corruptions += 1;
    this.#list('corruption', message);
  }

  /** The message is made for what is listed only: a hostile image has millions of problems. */
  #list(kind: ImageProblem['kind'], message: () => string): void {
    if (this.#problems.length < MAX_PROBLEMS_LISTED) this.#problems.push({ kind, message: message() });
  }
}
