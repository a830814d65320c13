/** What is in a directory (kernel documentation, ext4, "Directory Entries"). Indexed ones are read block by block too. */
import { fromBytes } from '../../../base/tar/names.js';
import { damaged } from './refusals.js';

const headerBytes = 8;
const maxNameBytes = 255;

/** Names in a directory as binary strings, and the numbers of their inodes, in the same order. */
export interface Entries {
  readonly names: string[];
  readonly inodes: number[];
}

/**
 * Adds the entries of one block of a directory, without `.` and `..`. A block of an index holds one entry without an inode.
 * Throws `disk_image_invalid` for lengths that lead nowhere and names that no file can have.
 */
export function addEntries(block: Buffer, found: Entries, inodeCount: number, what: string): void {
  for (let at = 0; at + headerBytes <= block.length; ) {
    const inode = block.readUInt32LE(at);
    const length = entryLength(block, at);
    const nameBytes = block.readUInt8(at + 6);
    const fits = length >= headerBytes && length % 4 === 0 && at + length <= block.length;
    if (!fits || headerBytes + nameBytes > length) throw damaged(what, 'an entry of a directory is cut off');
    if (inode !== 0) {
      if (inode > inodeCount) throw damaged(what, `a directory names inode ${inode}`);
      const name = fromBytes(block.subarray(at + headerBytes, at + headerBytes + nameBytes));
      checkName(name, what);
      if (name !== '.' && name !== '..') {
        found.names.push(name);
        found.inodes.push(inode);
      }
    }
    at += length;
  }
}

/** Blocks of 64 KiB are longer than two bytes can say: then 0 or 65535 stands for all of it. */
function entryLength(block: Buffer, at: number): number {
  const length = block.readUInt16LE(at + 4);
  return block.length === 2 ** 16 && (length === 0 || length === 0xffff) ? block.length - at : length;
}

function checkName(name: string, what: string): void {
  if (name === '' || name.length > maxNameBytes || name.includes('/') || name.includes('\0')) {
    throw damaged(what, 'a directory has a name that no file can have');
  }
}
