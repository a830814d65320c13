/** What the superblock of a file system says (kernel documentation, ext4, "Super Block"). */
import { damaged, notUnderstood } from './refusals.js';

/** Where the superblock is, and how long it is, in bytes. */
export const superblockAt = { offset: 1024, length: 1024 } as const;

const magic = 0xef53;

/** Features that change how files are read, and are understood. */
const incompatible = {
  fileType: 0x2,
  needsRecovery: 0x4,
  extents: 0x40,
  wide: 0x80,
  mountProtection: 0x100,
  flexGroups: 0x200,
  checksumSeed: 0x2000,
  largeDirectories: 0x4000,
  inlineData: 0x8000,
} as const;
const understood = Object.values(incompatible).reduce((all, bit) => all | bit, 0);

/** Names of those that are not, as mke2fs and the kernel call them. */
const refusedNames: readonly (readonly [bit: number, name: string])[] = [
  [0x1, 'compression'],
  [0x8, 'journal_dev'],
  [0x10, 'meta_bg'],
  [0x400, 'ea_inode'],
  [0x1000, 'dirdata'],
  [0x10000, 'encrypt'],
  [0x20000, 'casefold'],
];

/** Journals on another device than the disk's, in `s_feature_compat` has_journal without an inode. */
const hasJournal = 0x4;

/** Blocks of the largest file system that is read: 4 TiB in blocks of 1 KiB, as large as disks get here. */
const maxBlocks = 2 ** 32;

/** The shape of a file system. Byte counts, block and inode numbers are checked against each other. */
export interface Layout {
  readonly blockSize: number;
  readonly blockCount: number;
  /** First block that belongs to a group: 1 with blocks of 1 KiB that are no clusters, else 0. */
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly groupCount: number;
  readonly inodeCount: number;
  readonly inodesPerGroup: number;
  readonly inodeSize: number;
  /** Bytes of a group descriptor. */
  readonly descriptorSize: number;
  /** Whether the journal may hold what is not in its place yet. */
  readonly needsRecovery: boolean;
  readonly journalInode: number;
}

/**
 * Reads the superblock. `diskBytes`: how long the disk is. Throws `disk_image_invalid` when it is none, contradicts itself or
 * names a feature that is not understood.
 */
export function parseLayout(bytes: Buffer, diskBytes: number, what: string): Layout {
  if (bytes.readUInt16LE(0x38) !== magic) throw damaged(what, 'there is no ext4 superblock');
  const features = bytes.readUInt32LE(0x60);
  const refused = refusedFeatures(features);
  if (bytes.readUInt32LE(0x4c) !== 1) refused.push(`revision ${bytes.readUInt32LE(0x4c)}`);
  if (refused.length > 0) throw notUnderstood(what, refused);
  const isWide = (features & incompatible.wide) !== 0;
  const logBlock = bytes.readUInt32LE(0x18);
  if (logBlock > 6) throw damaged(what, `blocks of 2^${logBlock + 10} bytes`);
  const blockSize = 1024 << logBlock;
  const blockCount = bytes.readUInt32LE(0x04) + (isWide ? bytes.readUInt32LE(0x150) * 2 ** 32 : 0);
  const firstDataBlock = bytes.readUInt32LE(0x14);
  const blocksPerGroup = bytes.readUInt32LE(0x20);
  const layout: Layout = {
    blockSize,
    blockCount,
    firstDataBlock,
    blocksPerGroup,
    groupCount: Math.ceil((blockCount - firstDataBlock) / blocksPerGroup),
    inodeCount: bytes.readUInt32LE(0x00),
    inodesPerGroup: bytes.readUInt32LE(0x28),
    inodeSize: bytes.readUInt16LE(0x58),
    descriptorSize: isWide ? bytes.readUInt16LE(0xfe) : 32,
    needsRecovery: (features & incompatible.needsRecovery) !== 0,
    journalInode: (bytes.readUInt32LE(0x5c) & hasJournal) === 0 ? 0 : bytes.readUInt32LE(0xe0),
  };
  const wrong = contradictionOf(layout, diskBytes);
  if (wrong !== undefined) throw damaged(what, wrong);
  return layout;
}

function refusedFeatures(features: number): string[] {
  const refused = refusedNames.filter(([bit]) => (features & bit) !== 0).map(([, name]) => name);
  const named = refusedNames.reduce((all, [bit]) => all | bit, understood);
  const rest = (features & ~named) >>> 0;
  return rest === 0 ? refused : [...refused, `incompatible features 0x${rest.toString(16)}`];
}

function contradictionOf(layout: Layout, diskBytes: number): string | undefined {
  const { blockSize, blockCount, blocksPerGroup, groupCount, inodesPerGroup, inodeSize } = layout;
  if (blockCount > maxBlocks || blockCount * blockSize > diskBytes) {
    return `${blockCount} blocks of ${blockSize} bytes on a disk of ${diskBytes} bytes`;
  }
  if (layout.firstDataBlock > (blockSize === 1024 ? 1 : 0)) return 'its groups begin elsewhere';
  if (blockCount <= layout.firstDataBlock) return 'it has no blocks';
  // A bitmap of one block per group; with clusters of several blocks (bigalloc) it covers more.
  if (blocksPerGroup < 256 || blocksPerGroup % 8 !== 0) return `groups of ${blocksPerGroup} blocks`;
  if (inodesPerGroup < 1 || inodesPerGroup > blockSize * 8) return `groups of ${inodesPerGroup} inodes`;
  if (layout.inodeCount !== inodesPerGroup * groupCount) return `${layout.inodeCount} inodes in its groups`;
  if (inodeSize < 128 || inodeSize > blockSize || (inodeSize & (inodeSize - 1)) !== 0) {
    return `inodes of ${inodeSize} bytes`;
  }
  const { descriptorSize } = layout;
  if (descriptorSize < 32 || descriptorSize > 1024 || (descriptorSize & (descriptorSize - 1)) !== 0) {
    return `group descriptors of ${descriptorSize} bytes`;
  }
  return undefined;
}
