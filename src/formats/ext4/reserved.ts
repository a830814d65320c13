/** The journal and the room to grow: inodes 8 and 7 (kernel documentation, ext4, "Special inodes"). */
import { FileType } from '../tree/tree.js';
import type { BlockAllocator } from './allocator.js';
import type { DiskFile } from './disk-file.js';
import { appendExtent, encodeExtents } from './extents.js';
import { blockSize, blocksPerGroup, type Geometry, inodeSize } from './geometry.js';
import { encodeInode, extentsFlag, sealInode } from './inode.js';
import { encodeJournalSuperblock } from './superblock.js';

/** Inode number of the reserved group descriptor blocks. */
const resizeInode = 7;
/** Inode number of the journal. */
export const journalInode = 8;

/** 16 MiB: enough for a box's bursts of metadata, small enough to cost nothing while unused. */
const journalBlocks = 4096;
const wordsPerBlock = blockSize / 4;
/** Index of the pointer to the doubly indirect block in i_block, and the blocks it can address with all below. */
const doubleIndirect = 13;
const resizeBlocks = wordsPerBlock * wordsPerBlock + wordsPerBlock + 12;
const epoch = { seconds: 0, nanoseconds: 0 };

/** Journal and resize inode: places taken at the start, so that they are the same for every image. */
export class JournalAndResize {
  readonly journalBytes = journalBlocks * blockSize;
  readonly #geometry: Geometry;
  readonly #pointerBlock: number;
  readonly #journalExtents: number[] = [];

  constructor(geometry: Geometry, blocks: BlockAllocator) {
    this.#geometry = geometry;
    this.#pointerBlock = blocks.allocate(1).start;
    let fileBlock = 0;
    for (const run of blocks.allocateAll(journalBlocks)) {
      appendExtent(this.#journalExtents, fileBlock, run.start, run.count);
      fileBlock += run.count;
    }
  }

  /** i_block of the journal's inode. */
  get journalContent(): Buffer {
    // At most two groups hold the journal, so its extents always fit into the inode and need no seed.
    return encodeExtents(this.#journalExtents, 0, () => 0).root;
  }

  /** Encodes inode 1 to 10 except the root's. */
  encode(inode: number, bytes: Buffer, seed: number): void {
    if (inode === journalInode) {
      this.#encodeFile(bytes, seed, this.journalBytes, journalBlocks, extentsFlag, this.journalContent);
    } else if (inode === resizeInode) {
      const copies = 1 + this.#geometry.backupGroups().length;
      const content = Buffer.alloc(60);
      content.writeUInt32LE(this.#pointerBlock, doubleIndirect * 4);
      const blocks = 1 + this.#geometry.reservedDescriptorBlocks * copies;
      this.#encodeFile(bytes, seed, resizeBlocks * blockSize, blocks, 0, content);
    } else {
      sealInode(bytes.subarray(0, inodeSize), seed);
    }
  }

  /**
   * Writes the journal's first block and the resize inode's pointers: its doubly indirect block points at each reserved
   * block of group 0, and each of those at its backups in the other groups, as libext2fs and the kernel expect.
   */
  async write(file: DiskFile): Promise<void> {
    await file.write(this.#journalExtents[1] ?? 0, encodeJournalSuperblock(journalBlocks));
    const { descriptorBlocks, reservedDescriptorBlocks } = this.#geometry;
    const backups = this.#geometry.backupGroups();
    const pointers = Buffer.alloc(blockSize);
    for (let index = 0; index < reservedDescriptorBlocks; index += 1) {
      const place = 1 + descriptorBlocks + index;
      pointers.writeUInt32LE(place, ((descriptorBlocks + index) % wordsPerBlock) * 4);
      const list = Buffer.alloc(blockSize);
      backups.forEach((group, slot) => {
        list.writeUInt32LE(place + group * blocksPerGroup, slot * 4);
      });
      await file.write(place, list);
    }
    await file.write(this.#pointerBlock, pointers);
  }

  #encodeFile(
    bytes: Buffer,
    seed: number,
    size: number,
    blocks: number,
    flags: number,
    content: Buffer,
  ): void {
    const fields = {
      type: FileType.regular,
      permissions: 0o600,
      uid: 0,
      gid: 0,
      links: 1,
      modifiedAt: epoch,
      accessedAt: epoch,
    };
    encodeInode(bytes, { ...fields, size, blocks, flags, content }, seed);
  }
}
