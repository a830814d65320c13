/** Inodes (kernel documentation, ext4, "Index Nodes"). */
import type { FileTime } from '../../base/tar/file-time.js';
import { FileType, type FileTypeCode } from '../tree/tree.js';
import { inodeAttributesOffset } from './attributes.js';
import { crc32c, crc32cOfNumber } from './crc32c.js';
import { blockSize, inodeSize } from './geometry.js';

/** i_flags: the 60 bytes of i_block hold an extent tree. */
export const extentsFlag = 0x80000;

const modeBits: Record<FileTypeCode, number> = {
  [FileType.regular]: 0o100000,
  [FileType.directory]: 0o040000,
  [FileType.characterDevice]: 0o020000,
  [FileType.blockDevice]: 0o060000,
  [FileType.fifo]: 0o010000,
  [FileType.symlink]: 0o120000,
};

/** The fields of an inode that differ between files. */
export interface InodeFields {
  readonly type: FileTypeCode;
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly size: number;
  readonly modifiedAt: FileTime;
  readonly accessedAt: FileTime;
  /** Blocks of content, extent tree and attributes. */
  readonly blocks: number;
  readonly flags: number;
  /** The 60 bytes of i_block: extent tree, short symlink or device number. */
  readonly content: Buffer;
  /** Attributes inside the inode, with their magic. */
  readonly attributes?: Buffer;
  /** Block of the attributes outside the inode. */
  readonly attributeBlock?: number;
}

/** Seed of everything that is checksummed as part of an inode; `seed` is the file system's. Generations are all 0. */
export function inodeSeed(seed: number, inode: number): number {
  return crc32cOfNumber(crc32cOfNumber(seed, inode), 0);
}

/** Encodes an inode into 256 zeroed bytes and seals it with its checksum. */
export function encodeInode(bytes: Buffer, fields: InodeFields, ownSeed: number): void {
  const sectors = fields.blocks * (blockSize / 512);
  bytes.writeUInt16LE(modeBits[fields.type] | fields.permissions, 0x00);
  bytes.writeUInt16LE(fields.uid & 0xffff, 0x02);
  bytes.writeUInt32LE(fields.size % 2 ** 32, 0x04);
  bytes.writeUInt16LE(fields.gid & 0xffff, 0x18);
  bytes.writeUInt16LE(fields.links, 0x1a);
  bytes.writeUInt32LE(sectors % 2 ** 32, 0x1c);
  bytes.writeUInt32LE(fields.flags, 0x20);
  fields.content.copy(bytes, 0x28);
  bytes.writeUInt32LE(fields.attributeBlock ?? 0, 0x68);
  bytes.writeUInt32LE(Math.floor(fields.size / 2 ** 32), 0x6c);
  bytes.writeUInt16LE(Math.floor(sectors / 2 ** 32), 0x74);
  bytes.writeUInt16LE(fields.uid >>> 16, 0x78);
  bytes.writeUInt16LE(fields.gid >>> 16, 0x7a);
  bytes.writeUInt16LE(32, 0x80);
  writeTime(bytes, fields.accessedAt, 0x08, 0x8c);
  writeTime(bytes, fields.modifiedAt, 0x0c, 0x84);
  writeTime(bytes, fields.modifiedAt, 0x10, 0x88);
  writeTime(bytes, fields.modifiedAt, 0x90, 0x94);
  fields.attributes?.copy(bytes, inodeAttributesOffset);
  sealInode(bytes, ownSeed);
}

/** Fills in an inode's checksum, also of an unused but reserved one. */
export function sealInode(bytes: Buffer, ownSeed: number): void {
  const checksum = crc32c(ownSeed, bytes.subarray(0, inodeSize));
  bytes.writeUInt16LE(checksum & 0xffff, 0x7c);
  // The upper half lies in the extra bytes, which an unused inode does not have.
  if (bytes.readUInt16LE(0x80) > 0) bytes.writeUInt16LE(checksum >>> 16, 0x82);
}

/** i_block of a device: the old 16-bit form where it fits, else the new 32-bit one in the second word. */
export function encodeDevice([major, minor]: readonly [number, number]): Buffer {
  const bytes = Buffer.alloc(60);
  if (major < 256 && minor < 256) bytes.writeUInt32LE((major << 8) | minor, 0);
  else bytes.writeUInt32LE(((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0, 4);
  return bytes;
}

const minSeconds = -(2 ** 31);
const maxSeconds = 2 ** 34 - 2 ** 31 - 1;

/** Seconds in 32 bits and two more beside the nanoseconds ("Inode Timestamps"); years outside 1901 to 2446 are clamped. */
function writeTime(bytes: Buffer, time: FileTime, at: number, extraAt: number): void {
  const seconds = Math.min(Math.max(time.seconds, minSeconds), maxSeconds);
  const low = seconds | 0;
  const epoch = (seconds - low) / 2 ** 32;
  bytes.writeInt32LE(low, at);
  bytes.writeUInt32LE(time.nanoseconds * 4 + epoch, extraAt);
}
