/** Linear directories (kernel documentation, ext4, "Directory Entries"). */
import { toBytes } from '../../base/tar/names.js';
import { FileType, sortedEntries, type TreeNode } from '../tree/tree.js';
import { crc32c } from './crc32c.js';
import { blockSize } from './geometry.js';

/** The end of each block is an entry of no inode that holds the block's checksum. */
const tailBytes = 12;
const tailType = 0xde;
const usableBytes = blockSize - tailBytes;

/**
 * The blocks of a directory: `.`, `..`, then all entries in byte order. `seed` is the directory's checksum seed.
 * Needs the tree to be numbered.
 */
export function* directoryBlocks(directory: TreeNode, parent: TreeNode, seed: number): Generator<Buffer> {
  let block = Buffer.alloc(blockSize);
  let at = 0;
  let lastAt = 0;
  const names: [string, TreeNode][] = [['.', directory], ['..', parent], ...sortedEntries(directory)];
  for (const [name, node] of names) {
    const bytes = toBytes(name);
    const length = entryLength(bytes.length);
    if (at + length > usableBytes) {
      yield seal(block, lastAt, seed);
      block = Buffer.alloc(blockSize);
      at = 0;
    }
    block.writeUInt32LE(node.inode, at);
    block.writeUInt16LE(length, at + 4);
    block.writeUInt8(bytes.length, at + 6);
    block.writeUInt8(node.type, at + 7);
    bytes.copy(block, at + 8);
    lastAt = at;
    at += length;
  }
  yield seal(block, lastAt, seed);
}

/** How many blocks {@link directoryBlocks} yields. */
export function countDirectoryBlocks(directory: TreeNode): number {
  let blocks = 1;
  let at = entryLength(1) + entryLength(2);
  for (const [name] of sortedEntries(directory)) {
    const length = entryLength(name.length);
    if (at + length > usableBytes) {
      blocks += 1;
      at = 0;
    }
    at += length;
  }
  return blocks;
}

/** Directories right inside a directory; each counts as a link to it. */
export function countSubdirectories(directory: TreeNode): number {
  let count = 0;
  for (const node of directory.children?.values() ?? []) if (node.type === FileType.directory) count += 1;
  return count;
}

function entryLength(nameBytes: number): number {
  return (8 + nameBytes + 3) & ~3;
}

/** The last entry reaches to the tail; the tail covers everything before it. */
function seal(block: Buffer, lastAt: number, seed: number): Buffer {
  block.writeUInt16LE(usableBytes - lastAt, lastAt + 4);
  block.writeUInt16LE(tailBytes, usableBytes + 4);
  block.writeUInt8(tailType, usableBytes + 7);
  block.writeUInt32LE(crc32c(seed, block.subarray(0, usableBytes)), usableBytes + 8);
  return block;
}
