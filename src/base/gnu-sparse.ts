/**
 * Numbers and sparse maps of tar headers in GNU's form.
 * Source: GNU tar manual, "Basic Tar Format" and "Storing Sparse Files" (old GNU format).
 */
import { CryoboxError } from '../errors.js';

/** A stretch of a sparse file that is stored; the rest is zeros. In bytes. */
export interface SparseRange {
  readonly offset: number;
  readonly length: number;
}

/** A part of a sparse map. */
export interface SparseMap {
  readonly ranges: SparseRange[];
  /** Whether a block with more follows. */
  readonly more: boolean;
}

const RANGES_IN_HEADER = 4;
const HEADER_RANGES_AT = 386;
const HEADER_MORE_AT = 482;
const RANGES_IN_BLOCK = 21;
const RANGE_BYTES = 24;
const NUMBER_BYTES = 12;

/** The sparse map in the header of a member of type `S`. Throws `archive_invalid`. */
export function decodeSparseHeader(block: Buffer): SparseMap {
  return {
    ranges: rangesAt(block, HEADER_RANGES_AT, RANGES_IN_HEADER),
    more: block[HEADER_MORE_AT] === 1,
  };
}

/** A block of 512 bytes after such a header, with more of the map. Throws `archive_invalid`. */
export function decodeSparseBlock(block: Buffer): SparseMap {
  return { ranges: rangesAt(block, 0, RANGES_IN_BLOCK), more: block[RANGES_IN_BLOCK * RANGE_BYTES] === 1 };
}

/** A number in octal digits, or one of 12 bytes in base 256 when its first bit is set. Throws `archive_invalid`. */
export function decodeTarNumber(block: Buffer, at: number, length: number): number {
  if (block[at] === 0x80 && length === NUMBER_BYTES) {
    const value = block.readBigUInt64BE(at + 4);
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  }
  const digits = /^ *([0-7]+)[\0 ]*$/.exec(block.toString('latin1', at, at + length))?.[1];
  if (digits === undefined) {
    throw new CryoboxError('archive_invalid', 'archive: a tar header holds a number that is none');
  }
  return Number.parseInt(digits, 8);
}

function rangesAt(block: Buffer, at: number, count: number): SparseRange[] {
  const ranges: SparseRange[] = [];
  for (let start = at; start < at + count * RANGE_BYTES && block[start] !== 0; start += RANGE_BYTES) {
    const offset = decodeTarNumber(block, start, NUMBER_BYTES);
    ranges.push({ offset, length: decodeTarNumber(block, start + NUMBER_BYTES, NUMBER_BYTES) });
  }
  return ranges;
}
