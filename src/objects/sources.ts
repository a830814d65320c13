import type { FileHandle } from 'node:fs/promises';
import { readFully } from '../base/files.js';
import { CryoboxError } from '../errors.js';
import type { ObjectSource } from './object-store.js';

/** Bytes in memory, to be put. */
export function bytesSource(bytes: Uint8Array): ObjectSource {
  return {
    sizeBytes: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

/** A file that does not change, to be put. Reading throws `storage_error` when it became shorter. */
export function fileSource(file: FileHandle, sizeBytes: number): ObjectSource {
  return {
    sizeBytes,
    read: async (offset, length) => {
      const bytes = Buffer.allocUnsafe(length);
      if ((await readFully(file, bytes, offset)) === length) return bytes;
      throw new CryoboxError('storage_error', 'a file became shorter while it was put into an object store');
    },
  };
}

/** The bytes of a source in pieces. */
export async function* piecesOf(
  source: ObjectSource,
  pieceBytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < source.sizeBytes; at += pieceBytes) {
    yield await source.read(at, Math.min(pieceBytes, source.sizeBytes - at));
  }
}
