/**
 * Tar blocks. Written: POSIX ustar headers of regular files, sizes of 8 GiB and more in GNU's base-256 form.
 * Read: those, and regular or sparse members in GNU's form, as BoxLite writes.
 * Source: GNU tar manual, "Basic Tar Format" and "Storing Sparse Files" (old GNU format).
 */
import { invalidArchive } from './format.js';

/** Everything in a tar is a multiple of this. */
export const BLOCK_BYTES = 512;
/** What ends a tar: two blocks of zeros. */
export const END_BYTES = 2 * BLOCK_BYTES;

/** A stretch of a sparse member that is stored; the rest is zeros. */
export interface SparseRange {
  readonly offset: number;
  readonly length: number;
}

/** What a header says. */
export interface TarHeader {
  readonly name: string;
  /** Bytes stored after the header. */
  readonly storedBytes: number;
  /** Bytes of the file, zeros included. */
  readonly sizeBytes: number;
  /** For a sparse member: its first stretches, and whether a block with more of them follows. */
  readonly sparse?: { readonly ranges: readonly SparseRange[]; readonly more: boolean };
}

const SIZE_AT = 124;
const CHECKSUM_AT = 148;
const TYPE_AT = 156;
const MAX_OCTAL_SIZE = 8 ** 11 - 1;
const RANGES_IN_HEADER = 4;
const RANGES_IN_BLOCK = 21;
const RANGE_BYTES = 24;

/** Zeros that bring a member of this size to a whole number of blocks. */
export function paddingBytes(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** The header of a regular file: mode 0600, owner 0, time 0, so that equal members give equal archives. */
export function encodeTarHeader(name: string, sizeBytes: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(name, 0, 100, 'latin1');
  block.write('0000600\0', 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  if (sizeBytes <= MAX_OCTAL_SIZE) {
    block.write(`${sizeBytes.toString(8).padStart(11, '0')}\0`, SIZE_AT);
  } else {
    block[SIZE_AT] = 0x80;
    block.writeBigUInt64BE(BigInt(sizeBytes), SIZE_AT + 4);
  }
  block.write('00000000000\0', 136);
  block.write('0', TYPE_AT);
  block.write('ustar\0', 257);
  block.write('00', 263);
  block.write(`${checksumOf(block).toString(8).padStart(6, '0')}\0 `, CHECKSUM_AT);
  return block;
}

/** Reads a header, or undefined for a block of zeros. Throws `archive_invalid`, also for other kinds of members. */
export function decodeTarHeader(block: Buffer): TarHeader | undefined {
  if (isZeros(block)) return undefined;
  if (numberAt(block, CHECKSUM_AT, 8) !== checksumOf(block)) throw invalidArchive('a tar header is damaged');
  const name = block.toString('latin1', 0, 100).replace(/\0.*$/s, '');
  const type = String.fromCharCode(block[TYPE_AT] ?? 0);
  const storedBytes = numberAt(block, SIZE_AT, 12);
  if (type === '0' || type === '\0' || type === '7') return { name, storedBytes, sizeBytes: storedBytes };
  if (type !== 'S') {
    throw invalidArchive(
      `member ${JSON.stringify(name)} is of type ${JSON.stringify(type)}, not a regular file`,
    );
  }
  const ranges = rangesAt(block, 386, RANGES_IN_HEADER);
  return {
    name,
    storedBytes,
    sizeBytes: numberAt(block, 483, 12),
    sparse: { ranges, more: block[482] === 1 },
  };
}

/** Reads a block with further stretches of a sparse member. */
export function decodeSparseBlock(block: Buffer): { ranges: SparseRange[]; more: boolean } {
  return { ranges: rangesAt(block, 0, RANGES_IN_BLOCK), more: block[RANGES_IN_BLOCK * RANGE_BYTES] === 1 };
}

/** Whether there is nothing but zeros. */
export function isZeros(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function rangesAt(block: Buffer, at: number, count: number): SparseRange[] {
  const ranges: SparseRange[] = [];
  for (let i = 0; i < count; i += 1) {
    const start = at + i * RANGE_BYTES;
    if (block[start] === 0) break;
    ranges.push({ offset: numberAt(block, start, 12), length: numberAt(block, start + 12, 12) });
  }
  return ranges;
}

/** The sum of all bytes, those of the checksum itself taken as spaces. */
function checksumOf(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK_BYTES; i += 1) {
    if (i < CHECKSUM_AT || i >= CHECKSUM_AT + 8) sum += block[i] ?? 0;
  }
  return sum;
}

/** A number in octal digits, or in base 256 when the first bit is set. */
function numberAt(block: Buffer, at: number, length: number): number {
  if (block[at] === 0x80 && length === 12) {
    const value = block.readBigUInt64BE(at + 4);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw invalidArchive('a tar header holds an absurd number');
    return Number(value);
  }
  const text = block.toString('latin1', at, at + length);
  const digits = /^ *([0-7]+)[\0 ]*$/.exec(text)?.[1];
  if (digits === undefined) throw invalidArchive('a tar header holds a number that is none');
  return Number.parseInt(digits, 8);
}
