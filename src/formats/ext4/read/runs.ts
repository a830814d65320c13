/** Which blocks of the disk a file has (kernel documentation, ext4, "Extent Tree"). */
import type { Turns } from '../../../base/turns.js';
import type { Blocks } from './blocks.js';
import type { Inode } from './inode.js';
import { damaged, tooMuch } from './refusals.js';

const magic = 0xf30a;
const recordBytes = 12;
/** No tree of 2^32 blocks is deeper. */
const maxDepth = 5;
/** Longest extent that holds data; the length of one without data is stored with this added. */
const maxWritten = 32_768;
/** Runs of one file: one of 8 GiB in single blocks has as many; 48 MiB of memory. */
export const maxRuns = 2_000_000;

/** Runs of a file: triples of file block, disk block and number of blocks, ascending. What lies between them is zeros. */
export type Runs = readonly number[];

/** What reading the runs of files takes. */
export interface RunReader {
  readonly blocks: Blocks;
  readonly blockCount: number;
  readonly what: string;
  readonly turns: Turns;
  /** Counts a block of a tree; throws when there have been too many. */
  countTreeBlock(): void;
}

/**
 * The runs of a file with extents. Throws `disk_image_invalid` for a tree that contradicts itself or points outside of the file
 * system, `resource_exhausted` for more extents than are read.
 */
export async function readRuns(reader: RunReader, inode: Inode): Promise<Runs> {
  const runs: number[] = [];
  await readNode(reader, inode, inode.content, undefined, runs);
  return runs;
}

async function readNode(
  reader: RunReader,
  inode: Inode,
  node: Buffer,
  expectedDepth: number | undefined,
  runs: number[],
): Promise<void> {
  const fail = (problem: string): Error =>
    damaged(reader.what, `the extents of inode ${inode.number}: ${problem}`);
  const count = node.readUInt16LE(2);
  const depth = node.readUInt16LE(6);
  if (node.readUInt16LE(0) !== magic) throw fail('a node is none');
  if (count > Math.floor(node.length / recordBytes) - 1) throw fail(`${count} of them in one node`);
  if (depth > maxDepth || (expectedDepth !== undefined && depth !== expectedDepth)) {
    throw fail('its nodes are at the wrong depth');
  }
  // Without this a node could be named again and again, and never come to an end.
  if (expectedDepth !== undefined && count === 0) throw fail('a node is empty');
  for (let i = 1; i <= count; i += 1) {
    const at = i * recordBytes;
    if (depth === 0) {
      addRun(reader, node, at, runs, fail);
      continue;
    }
    const block = node.readUInt32LE(at + 4) + node.readUInt16LE(at + 8) * 2 ** 32;
    if (block === 0 || block >= reader.blockCount) throw fail(`a node lies in block ${block}`);
    reader.countTreeBlock();
    await readNode(reader, inode, await reader.blocks.block(block), depth - 1, runs);
    await reader.turns.step();
  }
}

function addRun(
  { blockCount, what }: RunReader,
  node: Buffer,
  at: number,
  runs: number[],
  fail: (problem: string) => Error,
): void {
  const fileBlock = node.readUInt32LE(at);
  const length = node.readUInt16LE(at + 4);
  const diskBlock = node.readUInt32LE(at + 8) + node.readUInt16LE(at + 6) * 2 ** 32;
  const isWritten = length <= maxWritten;
  const count = isWritten ? length : length - maxWritten;
  const last = runs.length - 3;
  const least = last < 0 ? 0 : (runs[last] ?? 0) + (runs[last + 2] ?? 0);
  if (count === 0 || fileBlock < least) throw fail('they overlap or are not in order');
  if (diskBlock === 0 || diskBlock + count > blockCount) throw fail(`one lies in block ${diskBlock}`);
  if (!isWritten) return;
  if (runs.length >= 3 * maxRuns) throw tooMuch(what, `a file in more than ${maxRuns} pieces`);
  runs.push(fileBlock, diskBlock, count);
}
