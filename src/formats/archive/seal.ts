/** The CRC-32 at the end of an archive; see format.ts. */
import { crc32 } from 'node:zlib';

/** Length of the seal in bytes. */
export const SEAL_BYTES = 20;

const SKIPPABLE_MAGIC = 0x184d2a5c;
const TAG = 'CRYOSEAL';

/** The seal for everything before it. */
export function encodeSeal(crc: number): Buffer {
  const seal = Buffer.alloc(SEAL_BYTES);
  seal.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  seal.writeUInt32LE(SEAL_BYTES - 8, 4);
  seal.write(TAG, 8);
  seal.writeUInt32LE(crc, 16);
  return seal;
}

/** The CRC of a seal, or undefined when the bytes are none. */
export function decodeSeal(bytes: Buffer): number | undefined {
  if (bytes.length !== SEAL_BYTES) return undefined;
  const crc = bytes.readUInt32LE(16);
  return encodeSeal(crc).equals(bytes) ? crc : undefined;
}

/** Continues a CRC-32; starts at 0. */
export function updateCrc(crc: number, bytes: Uint8Array): number {
  return crc32(bytes, crc);
}

/**
 * The CRC of two pieces after each other from the CRC of each and the length of the second, so that the first can be
 * written last. A byte of zeros after a piece is a linear map of its CRC over bits; the map is raised to the power of
 * the length by squaring. Source: the definition of CRC-32 (ISO 3309).
 */
export function joinCrc(first: number, second: number, secondBytes: number): number {
  let shifted = first;
  let power = zeroByteMap();
  for (let left = secondBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shifted = apply(power, shifted);
    power = power.map((column) => apply(power, column));
  }
  return (shifted ^ second) >>> 0;
}

/** Where each bit of a CRC register goes when a byte of zeros passes through. */
function zeroByteMap(): number[] {
  return Array.from({ length: 32 }, (_, bit) => {
    let register = (1 << bit) >>> 0;
    for (let i = 0; i < 8; i += 1) {
      register = register & 1 ? (register >>> 1) ^ 0xedb88320 : register >>> 1;
    }
    return register >>> 0;
  });
}

function apply(map: readonly number[], vector: number): number {
  let result = 0;
  for (let bit = 0; bit < 32; bit += 1) if ((vector >>> bit) & 1) result ^= map[bit] ?? 0;
  return result >>> 0;
}
