/** Extended attributes as they are read (kernel documentation, ext4, "Extended Attributes"). */
import type { Inode } from './inode.js';
import { damaged } from './refusals.js';

const magic = 0xea020000;
const entryBytes = 16;
const blockHeaderBytes = 32;
const inodeFieldBytes = 128;
/** Number of the name space `system.`, and the name in it of what a file's inode had no room for. */
const systemSpace = 7;
const inlineRest = Buffer.from('data');

/** Values by the number of the name space and the name. */
export type Attributes = ReadonlyMap<string, Buffer>;

/** Key of the rest of a file that lies in its inode. */
export const inlineRestKey = attributeKey(systemSpace, inlineRest);

function attributeKey(space: number, name: Buffer): string {
  return `${space}.${name.toString('latin1')}`;
}

/** The attributes that lie in an inode. Throws `disk_image_invalid` for one whose places contradict themselves. */
export function attributesInside(inode: Inode, what: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  const start = inodeFieldBytes + inode.extraBytes;
  if (inode.extraBytes === 0 || start + 4 > inode.bytes.length) return found;
  if (inode.bytes.readUInt32LE(start) !== magic) return found;
  const area = inode.bytes.subarray(start + 4);
  readEntries(area, 0, area, found, () => damaged(what, `the attributes of inode ${inode.number}`));
  return found;
}

/** Adds the attributes of a block of them to others. Throws as {@link attributesInside}. */
export function addAttributesOf(block: Buffer, found: Map<string, Buffer>, what: string): void {
  const fail = (): Error => damaged(what, 'a block of attributes is none');
  if (block.readUInt32LE(0) !== magic) throw fail();
  readEntries(block, blockHeaderBytes, block, found, fail);
}

/** Entries from `at` on, up to four zero bytes; places of values count from the start of `values`. */
function readEntries(
  bytes: Buffer,
  start: number,
  values: Buffer,
  found: Map<string, Buffer>,
  fail: () => Error,
): void {
  let at = start;
  while (at + 4 <= bytes.length && bytes.readUInt32LE(at) !== 0) {
    if (at + entryBytes > bytes.length) throw fail();
    const nameBytes = bytes.readUInt8(at);
    const place = bytes.readUInt16LE(at + 2);
    const size = bytes.readUInt32LE(at + 8);
    const isElsewhere = bytes.readUInt32LE(at + 4) !== 0;
    if (isElsewhere || at + entryBytes + nameBytes > bytes.length) throw fail();
    if (size > 0 && place + size > values.length) throw fail();
    const name = bytes.subarray(at + entryBytes, at + entryBytes + nameBytes);
    found.set(attributeKey(bytes.readUInt8(at + 1), name), values.subarray(place, place + size));
    at += entryBytes + ((nameBytes + 3) & ~3);
  }
}

/** Whether two files have the same attributes; the rest of an inline file is none. */
export function sameAttributes(one: Attributes, other: Attributes): boolean {
  const count = (all: Attributes): number => all.size - (all.has(inlineRestKey) ? 1 : 0);
  if (count(one) !== count(other)) return false;
  for (const [key, value] of one) {
    if (key !== inlineRestKey && other.get(key)?.equals(value) !== true) return false;
  }
  return true;
}
