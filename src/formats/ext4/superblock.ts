/** Superblock, group descriptors and journal (kernel documentation, ext4, "Super Block", "Block Group Descriptors", "Journal"). */
import { crc32c, crc32cOfNumber } from './crc32c.js';
import {
  blockSize,
  blocksPerGroup,
  descriptorSize,
  firstInode,
  type Geometry,
  inodeSize,
  inodesPerGroup,
  logGroupsPerFlex,
} from './geometry.js';

const compatible = { hasJournal: 0x4, extendedAttributes: 0x8, resizeInode: 0x10, directoryIndex: 0x20 };
const incompatible = { fileType: 0x2, extents: 0x40, flexGroups: 0x200 };
const readOnlyCompatible = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  hugeFile: 0x8,
  directoryLinks: 0x20,
  extraInodeSize: 0x40,
  metadataChecksum: 0x400,
};

const sum = (features: Record<string, number>): number => Object.values(features).reduce((a, b) => a + b, 0);

/** What the superblock says that is not the geometry. */
export interface SuperblockFacts {
  readonly uuid: Buffer;
  readonly hashSeed: Buffer;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly journalInode: number;
  /** i_block and size of the journal, kept a second time for e2fsck. */
  readonly journalContent: Buffer;
  readonly journalBytes: number;
}

/** The 1024 bytes of the superblock's copy in a group. Every time in it is 0, so that the same image gives the same bytes. */
export function encodeSuperblock(geometry: Geometry, facts: SuperblockFacts, group: number): Buffer {
  const bytes = Buffer.alloc(1024);
  bytes.writeUInt32LE(geometry.inodeCount, 0x00);
  bytes.writeUInt32LE(geometry.blockCount, 0x04);
  bytes.writeUInt32LE(facts.freeBlocks, 0x0c);
  bytes.writeUInt32LE(facts.freeInodes, 0x10);
  bytes.writeUInt32LE(2, 0x18); // blocks of 1024 << 2
  bytes.writeUInt32LE(2, 0x1c); // clusters likewise
  bytes.writeUInt32LE(blocksPerGroup, 0x20);
  bytes.writeUInt32LE(blocksPerGroup, 0x24);
  bytes.writeUInt32LE(inodesPerGroup, 0x28);
  bytes.writeUInt16LE(0xffff, 0x36); // never checked because of its number of mounts
  bytes.writeUInt16LE(0xef53, 0x38);
  bytes.writeUInt16LE(1, 0x3a); // clean
  bytes.writeUInt16LE(1, 0x3c); // errors: continue
  bytes.writeUInt32LE(1, 0x4c); // dynamic revision
  bytes.writeUInt32LE(firstInode, 0x54);
  bytes.writeUInt16LE(inodeSize, 0x58);
  bytes.writeUInt16LE(group, 0x5a);
  bytes.writeUInt32LE(sum(compatible), 0x5c);
  bytes.writeUInt32LE(sum(incompatible), 0x60);
  bytes.writeUInt32LE(sum(readOnlyCompatible), 0x64);
  facts.uuid.copy(bytes, 0x68);
  bytes.writeUInt16LE(geometry.reservedDescriptorBlocks, 0xce);
  bytes.writeUInt32LE(facts.journalInode, 0xe0);
  facts.hashSeed.copy(bytes, 0xec);
  bytes.writeUInt8(1, 0xfc); // half MD4 for directories the guest indexes
  bytes.writeUInt8(1, 0xfd); // the journal's i_block has a copy below
  bytes.writeUInt32LE(0x0c, 0x100); // default mount options: user_xattr, acl
  facts.journalContent.copy(bytes, 0x10c);
  bytes.writeUInt32LE(Math.floor(facts.journalBytes / 2 ** 32), 0x10c + 60);
  bytes.writeUInt32LE(facts.journalBytes % 2 ** 32, 0x10c + 64);
  bytes.writeUInt16LE(32, 0x15c); // extra bytes every inode has
  bytes.writeUInt16LE(32, 0x15e);
  bytes.writeUInt32LE(1, 0x160); // directory hashes take chars as signed
  bytes.writeUInt8(logGroupsPerFlex, 0x174);
  bytes.writeUInt8(1, 0x175); // checksums are CRC-32C
  bytes.writeUInt32LE(crc32c(0xffffffff, bytes.subarray(0, 0x3fc)), 0x3fc);
  return bytes;
}

/** What a group descriptor says beside the places of its bitmaps. */
export interface GroupFacts {
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly directories: number;
  /** Inodes at the end of the group never used. */
  readonly unusedInodes: number;
  /** Absent when no block outside the group's own metadata is in use: the guest then makes the bitmap itself. */
  readonly blockBitmap?: Uint8Array;
  /** Absent when no inode is in use. */
  readonly inodeBitmap?: Uint8Array;
}

const groupFlags = { inodesUninitialised: 1, blocksUninitialised: 2, inodeTableZeroed: 4 };

/** The 32 bytes of a group descriptor. */
export function encodeDescriptor(geometry: Geometry, group: number, facts: GroupFacts, seed: number): Buffer {
  const bytes = Buffer.alloc(descriptorSize);
  bytes.writeUInt32LE(geometry.blockBitmap(group), 0x00);
  bytes.writeUInt32LE(geometry.inodeBitmap(group), 0x04);
  bytes.writeUInt32LE(geometry.inodeTable(group), 0x08);
  bytes.writeUInt16LE(facts.freeBlocks, 0x0c);
  bytes.writeUInt16LE(facts.freeInodes, 0x0e);
  bytes.writeUInt16LE(facts.directories, 0x10);
  bytes.writeUInt16LE(
    groupFlags.inodeTableZeroed |
      (facts.blockBitmap ? 0 : groupFlags.blocksUninitialised) |
      (facts.inodeBitmap ? 0 : groupFlags.inodesUninitialised),
    0x12,
  );
  if (facts.blockBitmap) bytes.writeUInt16LE(crc32c(seed, facts.blockBitmap) & 0xffff, 0x18);
  if (facts.inodeBitmap)
    bytes.writeUInt16LE(crc32c(seed, facts.inodeBitmap.subarray(0, inodesPerGroup / 8)) & 0xffff, 0x1a);
  bytes.writeUInt16LE(facts.unusedInodes, 0x1c);
  bytes.writeUInt16LE(crc32c(crc32cOfNumber(seed, group), bytes) & 0xffff, 0x1e);
  return bytes;
}

/** First block of an empty journal (JBD2, big-endian, "Super Block" version 2). */
export function encodeJournalSuperblock(blocks: number): Buffer {
  const bytes = Buffer.alloc(blockSize);
  bytes.writeUInt32BE(0xc03b3998, 0x00);
  bytes.writeUInt32BE(4, 0x04); // superblock, version 2
  bytes.writeUInt32BE(blockSize, 0x0c);
  bytes.writeUInt32BE(blocks, 0x10);
  bytes.writeUInt32BE(1, 0x14); // first block of the log
  bytes.writeUInt32BE(1, 0x18); // first sequence number
  bytes.writeUInt32BE(1, 0x40); // one file system uses it
  return bytes;
}
