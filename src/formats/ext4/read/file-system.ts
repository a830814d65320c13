/**
 * An ext4 file system that is read from the bytes of a disk, which a guest wrote: nothing of it is trusted, nothing of it is
 * changed. A journal that was not replayed is, in memory.
 */
import { throwIfCancelled } from '../../../base/abort.js';
import { Turns } from '../../../base/turns.js';
import { type Attributes, addAttributesOf, attributesInside, inlineRestKey } from './attributes.js';
import { readBlockMap } from './block-map.js';
import { Blocks, type ByteDisk, type Differences, type NewerBlocks } from './blocks.js';
import { addEntries, type Entries } from './entries.js';
import { fileKind, Inode } from './inode.js';
import { replayJournal } from './journal.js';
import { type Layout, parseLayout, superblockAt } from './layout.js';
import { damaged, notUnderstood, tooMuch } from './refusals.js';
import { type RunReader, type Runs, readRuns } from './runs.js';

/** Inode number of the root directory. */
export const rootInode = 2;

/** Blocks of extent trees that are read of one file system: they tell of 340 million extents. */
const maxTreeBlocks = 2 ** 20;
/** Bytes of all directories that are read of one file system: those of some 15 million files. */
const maxDirectoryBytes = 2 ** 30;
/** Names in one directory: more are not held in memory. */
const maxEntries = 1_000_000;
/** Longest target of a link that Linux makes or follows. */
const maxTargetBytes = 4096;
/** Longest content that lies in an inode: it is less than an inode and a block of attributes. */
const maxInlineBytes = 128 * 1024;
/** File blocks that an extent tree can name. */
const maxFileBlocks = 2 ** 32;

/** How a file system is opened. */
export interface ReadOptions {
  /** Names the disk in errors, such as `box web at snapshot before`. */
  readonly what: string;
  /** Where the disk may differ from the one it is compared with; what the journal has newer is added. */
  readonly differences: Differences;
  /** The file system that it is compared with, where that is open already: equal bytes are read once. */
  readonly beside?: FileSystem;
  readonly signal?: AbortSignal;
}

/** A file system that is open for reading. Its disk must not change meanwhile; whoever opened that closes it. */
export class FileSystem implements RunReader {
  readonly what: string;
  readonly turns = new Turns();
  readonly blocks: Blocks;
  readonly layout: Layout;
  readonly #signal: AbortSignal | undefined;
  readonly #inodeTables = new Map<number, number>();
  #treeBlocks = 0;
  #directoryBytes = 0;

  private constructor(layout: Layout, blocks: Blocks, options: ReadOptions) {
    this.layout = layout;
    this.blocks = blocks;
    this.what = options.what;
    this.#signal = options.signal;
  }

  /**
   * Reads the superblock and, where that says so, replays the journal. Throws `disk_image_invalid` for what is no ext4, is
   * damaged or has features that are not understood, `resource_exhausted` for a journal over 2^20 blocks.
   */
  static async open(disk: ByteDisk, options: ReadOptions): Promise<FileSystem> {
    const { what } = options;
    const layout = parseLayout(
      await superblockOf(new Blocks(disk, 1024), disk, what),
      disk.virtualSizeBytes,
      what,
    );
    const { blockSize } = layout;
    const { differences, beside } = options;
    const shared = beside && { blocks: beside.blocks, differences };
    if (!layout.needsRecovery)
      return new FileSystem(layout, new Blocks(disk, blockSize, undefined, shared), options);
    const before = new FileSystem(layout, new Blocks(disk, blockSize), options);
    const newer = await before.#replayed(disk);
    for (const block of newer.between(0, layout.blockCount)) differences.add(block * blockSize, blockSize);
    const blocks = new Blocks(disk, blockSize, newer, shared);
    const after = parseLayout(await superblockOf(blocks, disk, what), disk.virtualSizeBytes, what);
    if (after.blockSize !== blockSize) throw damaged(what, 'its journal changes the size of its blocks');
    return new FileSystem(after, blocks, options);
  }

  get blockCount(): number {
    return this.layout.blockCount;
  }

  countTreeBlock(): void {
    this.#treeBlocks += 1;
    if (this.#treeBlocks > maxTreeBlocks) {
      throw tooMuch(this.what, `more than ${maxTreeBlocks} blocks of extents`);
    }
  }

  /** Gives others a turn when it is time, and throws `cancelled` when the signal was raised meanwhile. */
  async step(): Promise<void> {
    const turn = this.turns.step();
    if (turn === undefined) return;
    await turn;
    throwIfCancelled(this.#signal, 'the comparison of two disks');
  }

  /** An inode that a directory names. Throws `disk_image_invalid` when there is none of the number, or it is not in use. */
  async inode(number: number): Promise<Inode> {
    const { inodeCount, inodesPerGroup, inodeSize, blockSize } = this.layout;
    if (number < 1 || number > inodeCount) throw damaged(this.what, `there is no inode ${number}`);
    const group = Math.floor((number - 1) / inodesPerGroup);
    const table = this.#inodeTables.get(group) ?? (await this.#findTable(group));
    const offset = table * blockSize + ((number - 1) % inodesPerGroup) * inodeSize;
    const inode = new Inode(number, Buffer.from(await this.blocks.small(offset, inodeSize)));
    if (!inode.isUsed) throw damaged(this.what, `inode ${number} is named, and not in use`);
    if (inode.size > maxFileBlocks * blockSize) {
      throw damaged(this.what, `inode ${number} says a length of ${inode.size} bytes`);
    }
    return inode;
  }

  /** The runs of a file whose content does not lie in its inode. Throws as {@link readRuns}. */
  async runs(inode: Inode): Promise<Runs> {
    return inode.hasExtents
      ? await readRuns(this, inode)
      : await readBlockMap(this, inode, this.layout.blockSize);
  }

  /** Extended attributes of a file. Throws `disk_image_invalid`. */
  async attributes(inode: Inode): Promise<Attributes> {
    const found = attributesInside(inode, this.what);
    const block = inode.attributeBlock;
    if (block !== 0) {
      if (block >= this.blockCount) throw damaged(this.what, `attributes lie in block ${block}`);
      addAttributesOf(await this.blocks.block(block), found, this.what);
    }
    return found;
  }

  /**
   * What is in a directory, in no order. Throws `disk_image_invalid`, `resource_exhausted` for more than a million names or
   * when all directories together are over 1 GiB.
   */
  async entries(directory: Inode): Promise<Entries> {
    const found: Entries = { names: [], inodes: [] };
    const { inodeCount, blockSize } = this.layout;
    if (directory.isEncrypted) throw notUnderstood(this.what, ['encrypted directories']);
    if (directory.isInline) {
      this.#countDirectory(directory.bytes.length, found);
      // The number of its parent comes first.
      addEntries(directory.content.subarray(4), found, inodeCount, this.what);
      const rest = (await this.attributes(directory)).get(inlineRestKey);
      if (rest) addEntries(rest, found, inodeCount, this.what);
      return found;
    }
    const count = Math.floor(directory.size / blockSize);
    const runs = await this.runs(directory);
    for (let i = 0; i < runs.length; i += 3) {
      const [fileBlock = 0, diskBlock = 0, length = 0] = [runs[i], runs[i + 1], runs[i + 2]];
      for (let j = 0; j < length && fileBlock + j < count; j += 1) {
        this.#countDirectory(blockSize, found);
        addEntries(await this.blocks.block(diskBlock + j), found, inodeCount, this.what);
        await this.step();
      }
    }
    return found;
  }

  /** Where a link leads, as bytes. Throws `disk_image_invalid` for one longer than 4096 bytes. */
  async target(link: Inode): Promise<Buffer> {
    if (link.size > maxTargetBytes)
      throw damaged(this.what, `inode ${link.number} is a link that is too long`);
    if (!link.isInline && !link.hasExtents && link.size < link.content.length) {
      return link.content.subarray(0, link.size);
    }
    return await this.wholeContent(link);
  }

  /** The content of a short file: a link, or one that lies in its inode. */
  async wholeContent(inode: Inode): Promise<Buffer> {
    if (inode.size > maxInlineBytes) throw damaged(this.what, `inode ${inode.number} says a wrong length`);
    if (inode.isInline) {
      const rest = (await this.attributes(inode)).get(inlineRestKey) ?? Buffer.alloc(0);
      const all = Buffer.concat([inode.content, rest]).subarray(0, inode.size);
      if (all.length < inode.size)
        throw damaged(this.what, `inode ${inode.number} lacks a part of its content`);
      return all;
    }
    const target = Buffer.alloc(Math.ceil(inode.size / this.layout.blockSize) * this.layout.blockSize);
    const runs = await this.runs(inode);
    for (let i = 0; i < runs.length; i += 3) {
      const at = (runs[i] ?? 0) * this.layout.blockSize;
      const length = Math.min((runs[i + 2] ?? 0) * this.layout.blockSize, target.length - at);
      if (length > 0)
        await this.blocks.into(target.subarray(at, at + length), (runs[i + 1] ?? 0) * this.layout.blockSize);
    }
    return target.subarray(0, inode.size);
  }

  async #findTable(group: number): Promise<number> {
    const { blockSize, descriptorSize, inodesPerGroup, inodeSize } = this.layout;
    // In the block behind the superblock's.
    const offset = (Math.floor(superblockAt.offset / blockSize) + 1) * blockSize + group * descriptorSize;
    if (offset + descriptorSize > this.blockCount * blockSize) {
      throw damaged(this.what, 'it has more groups than room for what describes them');
    }
    const descriptor = await this.blocks.small(offset, descriptorSize);
    const high = descriptorSize >= 64 ? descriptor.readUInt32LE(0x28) : 0;
    const table = descriptor.readUInt32LE(0x08) + high * 2 ** 32;
    const length = Math.ceil((inodesPerGroup * inodeSize) / blockSize);
    if (table === 0 || table + length > this.blockCount) {
      throw damaged(this.what, `the inodes of group ${group} lie in block ${table}`);
    }
    this.#inodeTables.set(group, table);
    return table;
  }

  #countDirectory(bytes: number, found: Entries): void {
    this.#directoryBytes += bytes;
    if (found.names.length > maxEntries) {
      throw tooMuch(this.what, `a directory of more than ${maxEntries} names`);
    }
    if (this.#directoryBytes > maxDirectoryBytes) {
      throw tooMuch(this.what, `more than ${maxDirectoryBytes} bytes of directories`);
    }
  }

  async #replayed(disk: ByteDisk): Promise<NewerBlocks> {
    const { what } = this;
    const { journalInode, blockSize } = this.layout;
    if (journalInode === 0) throw notUnderstood(what, ['a journal on another device']);
    const inode = await this.inode(journalInode);
    if (inode.kind !== fileKind.regular) throw damaged(what, 'its journal is no file');
    const runs = await this.runs(inode);
    return await replayJournal({
      disk,
      blockSize,
      what,
      blocks: Math.floor(inode.size / blockSize),
      blockOf: (journalBlock) => {
        const found = diskBlockOf(runs, journalBlock);
        if (found === undefined) throw damaged(what, `its journal has no block ${journalBlock}`);
        return found;
      },
    });
  }
}

async function superblockOf(blocks: Blocks, disk: ByteDisk, what: string): Promise<Buffer> {
  const end = superblockAt.offset + superblockAt.length;
  if (disk.virtualSizeBytes < end) throw damaged(what, `it has ${disk.virtualSizeBytes} bytes`);
  return await blocks.small(superblockAt.offset, superblockAt.length);
}

/** Where a block of a file is on the disk; undefined: it is zeros. */
function diskBlockOf(runs: Runs, fileBlock: number): number | undefined {
  let [low, high] = [0, runs.length / 3];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs[middle * 3] ?? 0) <= fileBlock) low = middle + 1;
    else high = middle;
  }
  const at = (low - 1) * 3;
  const offset = fileBlock - (runs[at] ?? 0);
  return low > 0 && offset < (runs[at + 2] ?? 0) ? (runs[at + 1] ?? 0) + offset : undefined;
}
