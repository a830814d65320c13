/**
 * The numbers of the qcow2 format and the limits this room holds.
 * Source: QEMU, docs/interop/qcow2.txt, sections "Header", "Header extensions", "Host cluster management",
 * "Guest cluster mapping".
 */
import { CryoboxError } from '../../errors.js';

/** Size of a cluster in bytes; the only size written and the only size read. */
export const CLUSTER_BYTES = 65_536;
/** Guest clusters one L2 table maps. */
export const L2_ENTRIES = CLUSTER_BYTES / 8;
/** Guest bytes one L2 table maps: 512 MiB. */
export const REGION_BYTES = L2_ENTRIES * CLUSTER_BYTES;
/** 16-bit refcounts one refcount block holds. */
export const REFCOUNT_BLOCK_ENTRIES = CLUSTER_BYTES / 2;

/** Entries of the largest L1 table accepted. It then fills one cluster, so it can always grow where it stands. */
export const MAX_L1_ENTRIES = CLUSTER_BYTES / 8;
/** Largest virtual size accepted: what {@link MAX_L1_ENTRIES} can map, 4 TiB. */
export const MAX_VIRTUAL_SIZE_BYTES = MAX_L1_ENTRIES * REGION_BYTES;
/** Largest refcount table accepted, in clusters: 16 map 256 TiB of file, far more than a full 4 TiB disk needs. */
export const MAX_REFCOUNT_TABLE_CLUSTERS = 16;
/** Most files a chain may have. The engine keeps chains at 16; foreign ones get room, loops do not. */
export const MAX_CHAIN_DEPTH = 64;
/** Guest sectors: virtual sizes are multiples of this. */
export const SECTOR_BYTES = 512;

/** What a layer file holds. */
export type DiskFormat = 'qcow2' | 'raw';

/** Reference to the layer underneath: a plain file name, resolved by whoever opens the chain, and its format. */
export interface Backing {
  readonly name: string;
  readonly format: DiskFormat;
}

/** Where an L1 or L2 entry keeps its offset: bits 9 to 55. The high word's share of it. */
export const OFFSET_HIGH_MASK = 0x00ff_ffff;
/** L1 and L2 entries: refcount is exactly one, so the cluster may be written in place (high word of bit 63). */
export const COPIED_HIGH = 0x8000_0000;
/** L2 entries: the cluster is compressed (high word of bit 62). */
export const COMPRESSED_HIGH = 0x4000_0000;

/**
 * Backing names are plain file names of this alphabet. Anything else could leave the directory or be read by
 * QEMU as a protocol (`nbd:`, `json:`).
 */
const backingName = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$/;

/** Whether a name may stand in a header as backing file. */
export function isBackingName(name: string): boolean {
  return backingName.test(name);
}

/** The error for a file that is not a disk image this room reads. `what` names the file. */
export function invalidImage(what: string, problem: string, cause?: unknown): CryoboxError {
  return new CryoboxError('disk_image_invalid', `disk image ${what}: ${problem}`, { cause });
}
