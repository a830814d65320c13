/**
 * Tar blocks. Written: POSIX ustar headers of regular files, sizes of 8 GiB and more in GNU's base-256 form.
 * Read: those, and regular or sparse members in GNU's form, as BoxLite writes.
 * Source: GNU tar manual, "Basic Tar Format" and "Storing Sparse Files" (old GNU format).
 */
import { decodeSparseHeader, decodeTarNumber, type SparseMap } from '../../base/gnu-sparse.js';
import { invalidArchive } from './format.js';

/** Everything in a tar is a multiple of this. */
export const BLOCK_BYTES = 512;
/** What ends a tar: two blocks of zeros. */
export const END_BYTES = 2 * BLOCK_BYTES;

/** What a header says. */
export interface TarHeader {
  readonly name: string;
  /** Bytes stored after the header. */
  readonly storedBytes: number;
  /** Bytes of the file, zeros included. */
  readonly sizeBytes: number;
  /** For a sparse member: its first stretches, and whether a block with more of them follows. */
  readonly sparse?: SparseMap;
}

const SIZE_AT = 124;
const CHECKSUM_AT = 148;
const TYPE_AT = 156;
const MAX_OCTAL_SIZE = 8 ** 11 - 1;

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
  if (decodeTarNumber(block, CHECKSUM_AT, 8) !== checksumOf(block))
    throw invalidArchive('a tar header is damaged');
  const name = block.toString('latin1', 0, 100).replace(/\0.*$/s, '');
  const type = String.fromCharCode(block[TYPE_AT] ?? 0);
  const storedBytes = decodeTarNumber(block, SIZE_AT, 12);
  if (type === '0' || type === '\0' || type === '7') return { name, storedBytes, sizeBytes: storedBytes };
  if (type !== 'S') {
    throw invalidArchive(
      `member ${JSON.stringify(name)} is of type ${JSON.stringify(type)}, not a regular file`,
    );
  }
  const sparse = decodeSparseHeader(block);
  return { name, storedBytes, sizeBytes: decodeTarNumber(block, 483, 12), sparse };
}

/** Whether there is nothing but zeros. */
export function isZeros(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

/** The sum of all bytes, those of the checksum itself taken as spaces. */
function checksumOf(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK_BYTES; i += 1) {
    if (i < CHECKSUM_AT || i >= CHECKSUM_AT + 8) sum += block[i] ?? 0;
  }
  return sum;
}
