/** Extended attributes (kernel documentation, ext4, "Extended Attributes"). */
import { crc32c } from './crc32c.js';
import { blockSize, inodeSize } from './geometry.js';

const magic = 0xea020000;
const entryHeaderBytes = 16;
const blockHeaderBytes = 32;
/** Where attributes begin inside an inode: behind its 128 old and 32 extra bytes. */
export const inodeAttributesOffset = 160;
/** Bytes for entries and values inside an inode, behind the magic. */
const inodeAttributeBytes = inodeSize - inodeAttributesOffset - 4;

/** Name spaces and the numbers that stand for them on disk; the two ACL names stand alone, without a rest. */
const nameSpaces: readonly (readonly [prefix: string, index: number])[] = [
  ['user.', 1],
  ['trusted.', 4],
  ['security.', 6],
];
const aclNames: ReadonlyMap<string, number> = new Map([
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
]);

interface Attribute {
  readonly index: number;
  readonly name: Buffer;
  readonly value: Buffer;
}

/** Attributes encoded: inside the inode, or as a block of their own whose number and checksum are filled in later. */
export type EncodedAttributes =
  | { readonly inInode: Buffer; readonly block?: undefined }
  | { readonly inInode?: undefined; readonly block: Buffer };

/** The attributes do not fit into one block, the most ext4 takes without another feature. */
export class AttributesTooLarge extends Error {}

/**
 * Encodes attributes. Names outside `user.`, `trusted.`, `security.` and the POSIX ACLs are left out: Linux has no place
 * for them on ext4 (macOS writes such names into layers). Throws {@link AttributesTooLarge} beyond one block.
 */
export function encodeAttributes(attributes: ReadonlyMap<string, Buffer>): EncodedAttributes | undefined {
  const known: Attribute[] = [];
  for (const [name, value] of attributes) {
    const attribute = toAttribute(name, value);
    if (attribute) known.push(attribute);
  }
  if (known.length === 0) return undefined;
  // The kernel searches a block in this order.
  known.sort((a, b) => a.index - b.index || a.name.length - b.name.length || a.name.compare(b.name));
  const inside = encodeInto(Buffer.alloc(inodeAttributeBytes), 0, known);
  if (inside) {
    const header = Buffer.alloc(4);
    header.writeUInt32LE(magic);
    return { inInode: Buffer.concat([header, inside.bytes]) };
  }
  const block = encodeInto(Buffer.alloc(blockSize), blockHeaderBytes, known);
  if (!block) throw new AttributesTooLarge();
  block.bytes.writeUInt32LE(magic, 0);
  block.bytes.writeUInt32LE(1, 4);
  block.bytes.writeUInt32LE(1, 8);
  block.bytes.writeUInt32LE(block.hash, 12);
  return { block: block.bytes };
}

/** Fills in the checksum of an attribute block, which covers the block's own number. */
export function sealAttributeBlock(bytes: Buffer, block: number, seed: number): void {
  const number = Buffer.alloc(8);
  number.writeUInt32LE(block);
  bytes.writeUInt32LE(0, 16);
  bytes.writeUInt32LE(crc32c(crc32c(seed, number), bytes), 16);
}

function toAttribute(name: string, value: Buffer): Attribute | undefined {
  const aclIndex = aclNames.get(name);
  if (aclIndex !== undefined) {
    const acl = encodeAcl(value);
    return acl && { index: aclIndex, name: Buffer.alloc(0), value: acl };
  }
  for (const [prefix, index] of nameSpaces) {
    if (!name.startsWith(prefix) || name.length === prefix.length) continue;
    const rest = Buffer.from(name.slice(prefix.length), 'latin1');
    if (rest.length > 255) throw new AttributesTooLarge();
    return { index, name: rest, value };
  }
  return undefined;
}

/** ACL tags that carry an id: named users and groups (Linux, posix_acl_xattr.h). */
const namedTags = new Set([2, 8]);

/**
 * A POSIX ACL as ext4 stores it (version 1, an id only where one is meant) from the form system calls and tar use
 * (version 2, always an id). Undefined when it is not such an ACL.
 */
function encodeAcl(value: Buffer): Buffer | undefined {
  if (value.length < 4 || value.readUInt32LE(0) !== 2 || (value.length - 4) % 8 !== 0) return undefined;
  const header = Buffer.alloc(4);
  header.writeUInt32LE(1);
  const parts: Buffer[] = [header];
  for (let at = 4; at < value.length; at += 8) {
    parts.push(value.subarray(at, at + (namedTags.has(value.readUInt16LE(at)) ? 8 : 4)));
  }
  return Buffer.concat(parts);
}

/** Entries grow from `start` up, values from the end down; four zero bytes end the entries. */
function encodeInto(
  bytes: Buffer,
  start: number,
  attributes: readonly Attribute[],
): { readonly bytes: Buffer; readonly hash: number } | undefined {
  let entryAt = start;
  let valueAt = bytes.length;
  let blockHash = 0;
  for (const { index, name, value } of attributes) {
    const nextEntry = entryAt + entryHeaderBytes + align4(name.length);
    const nextValue = valueAt - align4(value.length);
    if (nextEntry + 4 > nextValue) return undefined;
    value.copy(bytes, nextValue);
    const hash = entryHash(name, bytes.subarray(nextValue, valueAt));
    bytes.writeUInt8(name.length, entryAt);
    bytes.writeUInt8(index, entryAt + 1);
    bytes.writeUInt16LE(value.length === 0 ? 0 : nextValue, entryAt + 2);
    bytes.writeUInt32LE(value.length, entryAt + 8);
    bytes.writeUInt32LE(hash, entryAt + 12);
    name.copy(bytes, entryAt + entryHeaderBytes);
    blockHash = ((blockHash << 16) ^ (blockHash >>> 16) ^ hash) >>> 0;
    entryAt = nextEntry;
    valueAt = nextValue;
  }
  return { bytes, hash: blockHash };
}

function entryHash(name: Buffer, paddedValue: Buffer): number {
  let hash = 0;
  for (const byte of name) hash = (hash << 5) ^ (hash >>> 27) ^ byte;
  for (let at = 0; at < paddedValue.length; at += 4) {
    hash = (hash << 16) ^ (hash >>> 16) ^ paddedValue.readUInt32LE(at);
  }
  return hash >>> 0;
}

function align4(length: number): number {
  return (length + 3) & ~3;
}
