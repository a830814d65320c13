/**
 * Where everything lies in the file system (kernel documentation, ext4, "Block Groups" and "Flexible Block Groups"):
 * 4 KiB blocks, groups of 128 MiB, the bitmaps and inode tables of 16 groups packed at the start of the first of them,
 * superblock backups in group 1 and powers of 3, 5 and 7, and room behind each group descriptor table to grow online.
 */
import { CryoboxError } from '../../errors.js';

/** Bytes of a block. */
export const blockSize = 4096;
/** Blocks of a group: one bit each in a bitmap of one block. */
export const blocksPerGroup = blockSize * 8;
/** Inodes of a group: one for every 16 KiB, as mke2fs does. */
export const inodesPerGroup = 8192;
/** Bytes of an inode; room for nanoseconds and small extended attributes. */
export const inodeSize = 256;
/** Groups whose bitmaps and inode tables lie together, as mke2fs does. */
const groupsPerFlex = 16;
/** Log2 of {@link groupsPerFlex}, as the superblock has it. */
export const logGroupsPerFlex = 4;
/** Bytes of a group descriptor without the 64bit feature, which only file systems over 16 TiB need. */
export const descriptorSize = 32;
/** Blocks of a group's inode table. */
const inodeTableBlocks = (inodesPerGroup * inodeSize) / blockSize;
/** First inode number for files; the ones below are reserved (kernel documentation, ext4, "Special inodes"). */
export const firstInode = 11;

const groupBytes = blockSize * blocksPerGroup;
/**
 * Blocks for group descriptors, in use and reserved, at each copy: 128 descriptors a block, so the file system can grow
 * online to 2 TiB.
 */
const descriptorTableBlocks = 128;
/** Smaller has no room for the journal and the reserved blocks; each allocation bitmap in memory limits the upper end. */
const minimumBytes = 256 * 1024 * 1024;
const maximumBytes = 1024 ** 4;

/** What to do when an image does not fit. */
export const fullDiskHint = 'Use a smaller image, or a larger disk for a box of less than 10 GB.';

/** The layout of a file system of a given size. Block numbers are absolute. */
export class Geometry {
  readonly groupCount: number;
  readonly blockCount: number;
  readonly inodeCount: number;
  /** Blocks of the group descriptor table in use. */
  readonly descriptorBlocks: number;
  /** Blocks reserved behind it for growing (resize_inode). */
  readonly reservedDescriptorBlocks: number;

  /** Throws `invalid_argument` when the size is not a multiple of 128 MiB between 256 MiB and 1 TiB. */
  constructor(sizeBytes: number) {
    if (sizeBytes % groupBytes !== 0 || !(sizeBytes >= minimumBytes && sizeBytes <= maximumBytes)) {
      throw new CryoboxError(
        'invalid_argument',
        `the size of a base disk must be a multiple of 128 MiB from 256 MiB to 1 TiB, got ${sizeBytes} bytes`,
      );
    }
    this.groupCount = sizeBytes / groupBytes;
    this.blockCount = this.groupCount * blocksPerGroup;
    this.inodeCount = this.groupCount * inodesPerGroup;
    this.descriptorBlocks = Math.ceil((this.groupCount * descriptorSize) / blockSize);
    this.reservedDescriptorBlocks = descriptorTableBlocks - this.descriptorBlocks;
  }

  /** Whether a group holds a copy of the superblock and the descriptors (sparse_super). */
  hasSuperblock(group: number): boolean {
    return group <= 1 || isPowerOf(3, group) || isPowerOf(5, group) || isPowerOf(7, group);
  }

  /** Groups that hold a backup, ascending. */
  backupGroups(): number[] {
    const groups: number[] = [];
    for (let group = 1; group < this.groupCount; group += 1)
      if (this.hasSuperblock(group)) groups.push(group);
    return groups;
  }

  /** First block of a group. */
  groupStart(group: number): number {
    return group * blocksPerGroup;
  }

  /** Blocks of superblock, descriptors and reserved descriptors at the start of a group. */
  superblockBlocks(group: number): number {
    return this.hasSuperblock(group) ? 1 + this.descriptorBlocks + this.reservedDescriptorBlocks : 0;
  }

  /** Block of a group's block bitmap. */
  blockBitmap(group: number): number {
    const flex = this.#flex(group);
    return flex.start + flex.index;
  }

  /** Block of a group's inode bitmap. */
  inodeBitmap(group: number): number {
    const flex = this.#flex(group);
    return flex.start + flex.groups + flex.index;
  }

  /** First block of a group's inode table. */
  inodeTable(group: number): number {
    const flex = this.#flex(group);
    return flex.start + 2 * flex.groups + flex.index * inodeTableBlocks;
  }

  /** Every run of blocks that holds metadata with a fixed place, as start and length, ascending. */
  fixedRuns(): [number, number][] {
    const runs: [number, number][] = [];
    for (let group = 0; group < this.groupCount; group += 1) {
      const copies = this.superblockBlocks(group);
      if (copies > 0) runs.push([this.groupStart(group), copies]);
      const flex = this.#flex(group);
      if (flex.index === 0) runs.push([flex.start, flex.groups * (2 + inodeTableBlocks)]);
    }
    return runs;
  }

  #flex(group: number): { start: number; groups: number; index: number } {
    const index = group % groupsPerFlex;
    const first = group - index;
    return {
      start: this.groupStart(first) + this.superblockBlocks(first),
      groups: Math.min(groupsPerFlex, this.groupCount - first),
      index,
    };
  }
}

function isPowerOf(base: number, value: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}
