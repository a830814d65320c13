import { CryoboxError } from '../../errors.js';
import {
  type Backing,
  CLUSTER_BYTES,
  type DiskFormat,
  invalidImage,
  isBackingName,
  MAX_L1_ENTRIES,
  MAX_REFCOUNT_TABLE_CLUSTERS,
  MAX_VIRTUAL_SIZE_BYTES,
  REGION_BYTES,
  SECTOR_BYTES,
} from './format.js';

/** How compressed clusters of an image are packed. */
export type CompressionType = 'deflate' | 'zstd';

/** A header extension kept as it is. */
interface HeaderExtension {
  readonly type: number;
  readonly data: Buffer;
}

/** A qcow2 version 3 header. All offsets and sizes in bytes unless the name says otherwise. */
export interface Qcow2Header {
  readonly virtualSizeBytes: number;
  readonly backing: Backing | null;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly compressionType: CompressionType;
  /** Refcounts may be stale because the last writer did not close the image (lazy refcounts). */
  readonly dirty: boolean;
  readonly compatibleFeatures: bigint;
  readonly autoclearFeatures: bigint;
  /** All header extensions but the backing format, for rewriting. */
  readonly extensions: readonly HeaderExtension[];
}

const MAGIC = 0x5146_49fb;
const VERSION = 3;
const CLUSTER_BITS = 16;
const REFCOUNT_ORDER = 4;
/** Length of the header with the compression type field. */
const HEADER_LENGTH = 112;
const MIN_HEADER_LENGTH = 104;
const MAX_BACKING_NAME_BYTES = 1023;

const EXTENSION_BACKING_FORMAT = 0xe279_2aca;
const EXTENSION_BITMAPS = 0x2385_2875;

const INCOMPATIBLE_DIRTY = 1n;
const INCOMPATIBLE_CORRUPT = 2n;
const INCOMPATIBLE_EXTERNAL_DATA = 4n;
const INCOMPATIBLE_COMPRESSION = 8n;
const INCOMPATIBLE_EXTENDED_L2 = 16n;
const INCOMPATIBLE_KNOWN = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION;

/**
 * Reads a header from the first bytes of a file (one cluster, or the whole file when it is shorter).
 * `what` names the file in errors. Throws `disk_image_invalid` for anything but a version 3 image with 64 KiB
 * clusters, 16-bit refcounts, no encryption, no internal snapshots, no external data and known features, whose
 * tables lie inside `fileSizeBytes`.
 */
export function parseHeader(bytes: Buffer, fileSizeBytes: number, what: string): Qcow2Header {
  if (bytes.length < MIN_HEADER_LENGTH || bytes.readUInt32BE(0) !== MAGIC) {
    throw invalidImage(what, 'not a qcow2 image');
  }
  const incompatible = checkVersionAndFeatures(bytes, what);
  const headerLength = bytes.readUInt32BE(100);
  if (headerLength < MIN_HEADER_LENGTH || headerLength % 8 !== 0 || headerLength > bytes.length) {
    throw invalidImage(what, `header length ${headerLength} is not a multiple of 8 of at least 104`);
  }
  const extensions = parseExtensions(bytes, headerLength, what);
  const formats = extensions.filter((extension) => extension.type === EXTENSION_BACKING_FORMAT);
  if (formats.length > 1) throw invalidImage(what, 'two backing formats');
  const header: Qcow2Header = {
    virtualSizeBytes: readU64(bytes, 24, 'virtual size', what),
    backing: parseBacking(bytes, formats[0]?.data.toString('latin1'), what),
    l1Entries: bytes.readUInt32BE(36),
    l1Offset: readU64(bytes, 40, 'L1 offset', what),
    refcountTableOffset: readU64(bytes, 48, 'refcount table offset', what),
    refcountTableClusters: bytes.readUInt32BE(56),
    compressionType: parseCompression(bytes, headerLength, incompatible, what),
    dirty: (incompatible & INCOMPATIBLE_DIRTY) !== 0n,
    compatibleFeatures: bytes.readBigUInt64BE(80),
    autoclearFeatures: bytes.readBigUInt64BE(88),
    extensions: extensions.filter((extension) => extension.type !== EXTENSION_BACKING_FORMAT),
  };
  checkGeometry(header, fileSizeBytes, what);
  return header;
}

/**
 * A header as bytes, padded with zeros to no more than it needs; it goes to the start of the file.
 * Throws `invalid_argument` when header, extensions and backing name do not fit in one cluster.
 */
export function encodeHeader(header: Qcow2Header): Buffer {
  const name = Buffer.from(header.backing?.name ?? '', 'latin1');
  const extensions = encodeExtensions(header);
  const length = HEADER_LENGTH + extensions.length + name.length;
  if (length > CLUSTER_BYTES) {
    throw new CryoboxError('invalid_argument', `qcow2 header of ${length} bytes exceeds one cluster`);
  }
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(VERSION, 4);
  if (header.backing) {
    bytes.writeBigUInt64BE(BigInt(HEADER_LENGTH + extensions.length), 8);
    bytes.writeUInt32BE(name.length, 16);
  }
  bytes.writeUInt32BE(CLUSTER_BITS, 20);
  bytes.writeBigUInt64BE(BigInt(header.virtualSizeBytes), 24);
  bytes.writeUInt32BE(header.l1Entries, 36);
  bytes.writeBigUInt64BE(BigInt(header.l1Offset), 40);
  bytes.writeBigUInt64BE(BigInt(header.refcountTableOffset), 48);
  bytes.writeUInt32BE(header.refcountTableClusters, 56);
  const zstd = header.compressionType === 'zstd';
  const incompatible = (header.dirty ? INCOMPATIBLE_DIRTY : 0n) | (zstd ? INCOMPATIBLE_COMPRESSION : 0n);
  bytes.writeBigUInt64BE(incompatible, 72);
  bytes.writeBigUInt64BE(header.compatibleFeatures, 80);
  bytes.writeBigUInt64BE(header.autoclearFeatures, 88);
  bytes.writeUInt32BE(REFCOUNT_ORDER, 96);
  bytes.writeUInt32BE(HEADER_LENGTH, 100);
  bytes.writeUInt8(zstd ? 1 : 0, 104);
  extensions.copy(bytes, HEADER_LENGTH);
  name.copy(bytes, HEADER_LENGTH + extensions.length);
  return bytes;
}

function checkVersionAndFeatures(bytes: Buffer, what: string): bigint {
  const expect = (got: number, wanted: number, field: string): void => {
    if (got !== wanted) throw invalidImage(what, `${field} is ${got}; only ${wanted} is supported`);
  };
  expect(bytes.readUInt32BE(4), VERSION, 'qcow2 version');
  expect(bytes.readUInt32BE(20), CLUSTER_BITS, 'cluster bits');
  expect(bytes.readUInt32BE(32), 0, 'encryption method');
  expect(bytes.readUInt32BE(60), 0, 'number of internal snapshots');
  expect(bytes.readUInt32BE(96), REFCOUNT_ORDER, 'refcount order');
  // QEMU looks at where they would be all the same.
  const snapshotsAt = readU64(bytes, 64, 'offset of internal snapshots', what);
  if (snapshotsAt % CLUSTER_BYTES !== 0) throw invalidImage(what, `internal snapshots at ${snapshotsAt}`);
  const incompatible = bytes.readBigUInt64BE(72);
  if (incompatible & INCOMPATIBLE_CORRUPT) throw invalidImage(what, 'marked as corrupt by its last writer');
  if (incompatible & INCOMPATIBLE_EXTERNAL_DATA) throw invalidImage(what, 'external data files are refused');
  if (incompatible & INCOMPATIBLE_EXTENDED_L2) throw invalidImage(what, 'extended L2 entries are refused');
  if (incompatible & ~INCOMPATIBLE_KNOWN) {
    throw invalidImage(what, `unknown incompatible features 0x${incompatible.toString(16)}`);
  }
  return incompatible;
}

function parseCompression(
  bytes: Buffer,
  headerLength: number,
  incompatible: bigint,
  what: string,
): CompressionType {
  const type = headerLength > MIN_HEADER_LENGTH ? bytes.readUInt8(104) : 0;
  const flagged = (incompatible & INCOMPATIBLE_COMPRESSION) !== 0n;
  if (type > 1 || flagged !== (type === 1)) throw invalidImage(what, `unknown compression type ${type}`);
  return type === 1 ? 'zstd' : 'deflate';
}

function parseExtensions(bytes: Buffer, start: number, what: string): HeaderExtension[] {
  const extensions: HeaderExtension[] = [];
  const end = Math.min(bytes.length, CLUSTER_BYTES);
  for (let at = start; at + 8 <= end; ) {
    const type = bytes.readUInt32BE(at);
    const length = bytes.readUInt32BE(at + 4);
    if (type === 0) return extensions;
    if (at + 8 + length > end) throw invalidImage(what, 'a header extension leaves the first cluster');
    extensions.push({ type, data: Buffer.from(bytes.subarray(at + 8, at + 8 + length)) });
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return extensions;
}

function encodeExtensions(header: Qcow2Header): Buffer {
  const all = [...header.extensions];
  if (header.backing) {
    all.unshift({ type: EXTENSION_BACKING_FORMAT, data: Buffer.from(header.backing.format, 'latin1') });
  }
  const parts: Buffer[] = [];
  for (const { type, data } of all) {
    const part = Buffer.alloc(8 + Math.ceil(data.length / 8) * 8);
    part.writeUInt32BE(type, 0);
    part.writeUInt32BE(data.length, 4);
    data.copy(part, 8);
    parts.push(part);
  }
  parts.push(Buffer.alloc(8));
  return Buffer.concat(parts);
}

function parseBacking(bytes: Buffer, format: string | undefined, what: string): Backing | null {
  const offset = readU64(bytes, 8, 'backing name offset', what);
  const length = bytes.readUInt32BE(16);
  if (offset === 0) return null;
  if (length === 0 || length > MAX_BACKING_NAME_BYTES || offset + length > bytes.length) {
    throw invalidImage(what, 'the backing name lies outside the first cluster');
  }
  const name = bytes.toString('latin1', offset, offset + length);
  if (!isBackingName(name)) {
    throw invalidImage(what, `backing name ${JSON.stringify(name)} is not a plain file name`);
  }
  // Probing the format would let a guest that writes a header into a raw layer choose what is read.
  if (format === undefined) throw invalidImage(what, 'the format of the backing file is not given');
  if (format !== 'qcow2' && format !== 'raw') {
    throw invalidImage(what, `backing format ${JSON.stringify(format)} is neither qcow2 nor raw`);
  }
  return { name, format: format satisfies DiskFormat };
}

function checkGeometry(header: Qcow2Header, fileSizeBytes: number, what: string): void {
  const size = header.virtualSizeBytes;
  if (size % SECTOR_BYTES !== 0 || size > MAX_VIRTUAL_SIZE_BYTES) {
    throw invalidImage(what, `virtual size ${size} is not a multiple of 512 up to ${MAX_VIRTUAL_SIZE_BYTES}`);
  }
  if (header.l1Entries > MAX_L1_ENTRIES || header.l1Entries < Math.ceil(size / REGION_BYTES)) {
    throw invalidImage(what, `an L1 table of ${header.l1Entries} entries does not fit ${size} bytes of disk`);
  }
  const clusters = header.refcountTableClusters;
  if (clusters === 0 || clusters > MAX_REFCOUNT_TABLE_CLUSTERS) {
    throw invalidImage(what, `a refcount table of ${clusters} clusters is outside 1..16`);
  }
  const inside = (offset: number, length: number): boolean =>
    offset % CLUSTER_BYTES === 0 && offset >= CLUSTER_BYTES && offset + length <= fileSizeBytes;
  if (header.l1Entries > 0 && !inside(header.l1Offset, header.l1Entries * 8)) {
    throw invalidImage(
      what,
      `L1 table at ${header.l1Offset} lies outside the file of ${fileSizeBytes} bytes`,
    );
  }
  if (!inside(header.refcountTableOffset, clusters * CLUSTER_BYTES)) {
    const at = header.refcountTableOffset;
    throw invalidImage(what, `refcount table at ${at} lies outside the file of ${fileSizeBytes} bytes`);
  }
  if (header.extensions.some((extension) => extension.type === EXTENSION_BITMAPS)) {
    throw invalidImage(what, 'persistent bitmaps are refused');
  }
}

/** A 64-bit field as a number; what does not fit exactly is an error, never rounded. */
function readU64(bytes: Buffer, at: number, field: string, what: string): number {
  const value = bytes.readBigUInt64BE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalidImage(what, `${field} ${value} is absurd`);
  return Number(value);
}
