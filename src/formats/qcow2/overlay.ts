import { closeSync, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { syncDirectory, syncFile } from '../../base/files.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import {
  type Backing,
  CLUSTER_BYTES,
  isBackingName,
  MAX_VIRTUAL_SIZE_BYTES,
  REGION_BYTES,
  SECTOR_BYTES,
} from './format.js';
import { encodeHeader, type Qcow2Header } from './header.js';

/** Options of {@link createOverlay}. */
export interface CreateOverlayOptions {
  /** The new file; it must not exist. */
  readonly path: string;
  /** Size the guest sees, in bytes: a multiple of 512, at most 4 TiB. May differ from the backing layer's. */
  readonly virtualSizeBytes: number;
  /** The layer underneath, by plain file name. Absent: an empty standalone image. */
  readonly backing?: Backing;
  /** Whether file and directory entry are fsynced before it returns. Default false. */
  readonly durable?: boolean;
}

/** The empty image: header, refcount table, one refcount block, L1 table, a cluster each. */
const REFCOUNT_TABLE_OFFSET = CLUSTER_BYTES;
const REFCOUNT_BLOCK_OFFSET = 2 * CLUSTER_BYTES;
const L1_OFFSET = 3 * CLUSTER_BYTES;
const EMPTY_IMAGE_BYTES = 4 * CLUSTER_BYTES;

const refcountTableStart = Buffer.alloc(8);
refcountTableStart.writeBigUInt64BE(BigInt(REFCOUNT_BLOCK_OFFSET));
/** Refcount one for the four clusters. */
const refcountBlockStart = Buffer.from([0, 1, 0, 1, 0, 1, 0, 1]);

/**
 * Creates an empty qcow2 image, usually an overlay on a layer. Throws `invalid_argument` for a bad size or
 * backing name, `disk_full` or `storage_error` when the file cannot be written (also when it exists already);
 * nothing is left then.
 */
export async function createOverlay(options: CreateOverlayOptions): Promise<void> {
  writeEmptyImage(options);
  if (!options.durable) return;
  try {
    await syncFile(options.path);
    await syncDirectory(dirname(options.path));
  } catch (error) {
    unlinkSync(options.path);
    throw wrapHostError(error, `create disk image ${options.path}`);
  }
}

/** Throws `invalid_argument` unless a name and format may stand in a header. */
export function checkBacking(backing: Backing): void {
  if (!isBackingName(backing.name)) {
    const name = JSON.stringify(backing.name);
    throw new CryoboxError('invalid_argument', `backing must be a plain file name, got ${name}`);
  }
}

/** Throws `invalid_argument` unless a size is one a disk may have. */
export function checkVirtualSize(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % SECTOR_BYTES || bytes > MAX_VIRTUAL_SIZE_BYTES) {
    const range = `a positive multiple of 512 up to ${MAX_VIRTUAL_SIZE_BYTES}`;
    throw new CryoboxError('invalid_argument', `virtualSizeBytes must be ${range}, got ${bytes}`);
  }
}

/**
 * Writes only the few bytes that are not zero and leaves the rest a hole: half the time of one large write and a
 * twentieth of the disk. Synchronous, because five calls of about two microseconds cost less than one hop to the
 * thread pool.
 */
function writeEmptyImage({ path, virtualSizeBytes, backing }: CreateOverlayOptions): void {
  checkVirtualSize(virtualSizeBytes);
  if (backing) checkBacking(backing);
  const header = encodeHeader(emptyImageHeader(virtualSizeBytes, backing ?? null));
  let fd: number | undefined;
  try {
    fd = openSync(path, 'wx', 0o600);
    writeSync(fd, header, 0, header.length, 0);
    writeSync(fd, refcountTableStart, 0, refcountTableStart.length, REFCOUNT_TABLE_OFFSET);
    writeSync(fd, refcountBlockStart, 0, refcountBlockStart.length, REFCOUNT_BLOCK_OFFSET);
    ftruncateSync(fd, EMPTY_IMAGE_BYTES);
    closeSync(fd);
  } catch (error) {
    if (fd !== undefined) {
      closeSync(fd);
      unlinkSync(path);
    }
    throw wrapHostError(error, `create disk image ${path}`);
  }
}

function emptyImageHeader(virtualSizeBytes: number, backing: Backing | null): Qcow2Header {
  return {
    virtualSizeBytes,
    backing,
    l1Entries: Math.ceil(virtualSizeBytes / REGION_BYTES),
    l1Offset: L1_OFFSET,
    refcountTableOffset: REFCOUNT_TABLE_OFFSET,
    refcountTableClusters: 1,
    compressionType: 'deflate',
    dirty: false,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    extensions: [],
  };
}
