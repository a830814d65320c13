/** Extent trees (kernel documentation, ext4, "The Contents of inode.i_block", "Extent Tree"). */
import { crc32c } from './crc32c.js';
import { blockSize, blocksPerGroup } from './geometry.js';

const magic = 0xf30a;
const recordBytes = 12;
/** Bytes of i_block, which holds the root of the tree. */
const rootBytes = 60;
const rootRecords = 4;
/** Records of a block: header and 340 records leave four bytes for the checksum. */
const blockRecords = 340;

/** One line of a node: an extent, or the first file block of a lower node and where that node lies. */
interface TreeRecord {
  readonly fileBlock: number;
  readonly diskBlock: number;
  /** Blocks of an extent; 0 in an index. */
  readonly count: number;
}

/** A block of an extent tree, ready to be written. */
interface TreeBlock {
  readonly block: number;
  readonly bytes: Buffer;
}

/**
 * Adds a run to a list of extents (triples of file block, disk block, count), growing the last one where both file and
 * disk go on in the same group; so no extent is longer than the 32768 blocks the format allows.
 */
export function appendExtent(extents: number[], fileBlock: number, diskBlock: number, count: number): void {
  const last = extents.length - 3;
  if (last >= 0) {
    const lastCount = extents[last + 2] ?? 0;
    const goesOn =
      extents[last] === fileBlock - lastCount &&
      extents[last + 1] === diskBlock - lastCount &&
      diskBlock % blocksPerGroup !== 0;
    if (goesOn) {
      extents[last + 2] = lastCount + count;
      return;
    }
  }
  extents.push(fileBlock, diskBlock, count);
}

/** Blocks of all extents together. */
export function countBlocks(extents: readonly number[]): number {
  let blocks = 0;
  for (let at = 2; at < extents.length; at += 3) blocks += extents[at] ?? 0;
  return blocks;
}

/**
 * Encodes extents as the 60 bytes of i_block and, beyond four extents, the blocks of the tree below.
 * `seed` is the inode's checksum seed; `allocateBlock` finds room for a tree block.
 */
export function encodeExtents(
  extents: readonly number[],
  seed: number,
  allocateBlock: () => number,
): { readonly root: Buffer; readonly blocks: readonly TreeBlock[] } {
  let records: TreeRecord[] = [];
  for (let at = 0; at + 2 < extents.length; at += 3) {
    records.push({
      fileBlock: extents[at] ?? 0,
      diskBlock: extents[at + 1] ?? 0,
      count: extents[at + 2] ?? 0,
    });
  }
  const blocks: TreeBlock[] = [];
  let depth = 0;
  while (records.length > rootRecords) {
    const above: TreeRecord[] = [];
    for (let at = 0; at < records.length; at += blockRecords) {
      const part = records.slice(at, at + blockRecords);
      const block = allocateBlock();
      const bytes = encodeNode(Buffer.alloc(blockSize), part, blockRecords, depth);
      bytes.writeUInt32LE(crc32c(seed, bytes.subarray(0, blockSize - 4)), blockSize - 4);
      blocks.push({ block, bytes });
      above.push({ fileBlock: part[0]?.fileBlock ?? 0, diskBlock: block, count: 0 });
    }
    records = above;
    depth += 1;
  }
  return { root: encodeNode(Buffer.alloc(rootBytes), records, rootRecords, depth), blocks };
}

function encodeNode(bytes: Buffer, records: readonly TreeRecord[], capacity: number, depth: number): Buffer {
  bytes.writeUInt16LE(magic, 0);
  bytes.writeUInt16LE(records.length, 2);
  bytes.writeUInt16LE(capacity, 4);
  bytes.writeUInt16LE(depth, 6);
  records.forEach((record, index) => {
    const at = recordBytes * (index + 1);
    bytes.writeUInt32LE(record.fileBlock, at);
    if (depth === 0) {
      bytes.writeUInt16LE(record.count, at + 4);
      bytes.writeUInt32LE(record.diskBlock, at + 8);
    } else {
      bytes.writeUInt32LE(record.diskBlock, at + 4);
    }
  });
  return bytes;
}
