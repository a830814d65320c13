/**
 * Block maps of ext2 and ext3 (kernel documentation, ext4, "Direct/Indirect Block Addressing"): e2fsck still makes
 * directories with them.
 */
import type { Inode } from './inode.js';
import { damaged, tooMuch } from './refusals.js';
import { maxRuns, type RunReader } from './runs.js';

/** Numbers of blocks in i_block that are the file's own; behind them come trees of one, two and three levels. */
const directBlocks = 12;
const levels = [1, 2, 3] as const;

/** The runs of a file with a block map, as triples. Throws as `readRuns`. */
export async function readBlockMap(reader: RunReader, inode: Inode, blockSize: number): Promise<number[]> {
  const map = new MapReader(reader, inode, blockSize);
  for (let i = 0; i < directBlocks; i += 1) map.add(inode.content.readUInt32LE(i * 4));
  for (const level of levels) {
    await map.tree(inode.content.readUInt32LE((directBlocks + level - 1) * 4), level);
  }
  return map.runs;
}

class MapReader {
  readonly runs: number[] = [];
  readonly #reader: RunReader;
  readonly #inode: Inode;
  readonly #perBlock: number;
  /** Blocks that the file has by its length: a map may go on behind them. */
  readonly #count: number;
  #next = 0;

  constructor(reader: RunReader, inode: Inode, blockSize: number) {
    this.#reader = reader;
    this.#inode = inode;
    this.#perBlock = blockSize / 4;
    this.#count = Math.ceil(inode.size / blockSize);
  }

  /** The next block of the file; 0: it is zeros. */
  add(diskBlock: number): void {
    const fileBlock = this.#next;
    this.#next += 1;
    if (diskBlock === 0 || fileBlock >= this.#count) return;
    this.#check(diskBlock);
    const { runs } = this;
    const last = runs.length - 3;
    const length = runs[last + 2] ?? 0;
    if (last >= 0 && runs[last] === fileBlock - length && runs[last + 1] === diskBlock - length) {
      runs[last + 2] = length + 1;
      return;
    }
    if (runs.length >= 3 * maxRuns) {
      throw tooMuch(this.#reader.what, `a file in more than ${maxRuns} pieces`);
    }
    runs.push(fileBlock, diskBlock, 1);
  }

  /** The blocks below a block of numbers. */
  async tree(block: number, level: number): Promise<void> {
    if (block === 0 || this.#next >= this.#count) {
      this.#next += this.#perBlock ** level;
      return;
    }
    this.#check(block);
    this.#reader.countTreeBlock();
    const numbers = await this.#reader.blocks.block(block);
    for (let i = 0; i < this.#perBlock; i += 1) {
      const number = numbers.readUInt32LE(i * 4);
      if (level === 1) this.add(number);
      else await this.tree(number, level - 1);
    }
    await this.#reader.turns.step();
  }

  #check(block: number): void {
    if (block < this.#reader.blockCount) return;
    throw damaged(this.#reader.what, `a block of inode ${this.#inode.number} lies in block ${block}`);
  }
}
