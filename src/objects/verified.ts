import { createHash } from 'node:crypto';
import type { CallOptions } from '../api/index.js';
import { damagedObject } from './failures.js';
import type { ObjectAccess, ObjectSource } from './object-store.js';
import { piecesOf } from './sources.js';

/** What an object is verified by: small enough to be read for one page, large enough to be few. */
export const pieceBytes = 2 ** 20;

/** How often a piece is read that is not what it should be: what was changed on the way comes right the second time. */
const readsOfPiece = 2;

/** The content of an object, by its pieces of {@link pieceBytes}; the last one may be shorter. */
export interface PieceIndex {
  readonly sizeBytes: number;
  /** SHA-256 of each piece, in hex. */
  readonly pieces: readonly string[];
}

/** Reads a source and tells what it consists of. */
export async function indexOf(source: ObjectSource): Promise<PieceIndex> {
  const pieces: string[] = [];
  for await (const piece of piecesOf(source, pieceBytes)) pieces.push(digestOf(piece));
  return { sizeBytes: source.sizeBytes, pieces };
}

/**
 * A piece of an object, verified. Throws `integrity` when the store gives other bytes, also the second time, and as reading
 * an object does.
 */
export async function readPiece(
  store: ObjectAccess,
  key: string,
  index: PieceIndex,
  number: number,
  { signal }: CallOptions = {},
): Promise<Buffer> {
  const offset = number * pieceBytes;
  const length = Math.min(pieceBytes, index.sizeBytes - offset);
  for (let count = 0; count < readsOfPiece; count += 1) {
    const bytes = await store.read(key, { offset, length, signal });
    if (digestOf(bytes) === index.pieces[number]) return bytes;
  }
  throw damagedObject(store.name, key, `has other bytes from ${offset} to ${offset + length} than were put`);
}

/** Pieces asked for at once: a store answers after milliseconds, which one at a time would wait for each. 8 MiB of memory. */
const piecesAhead = 8;

/**
 * All pieces of an object in order, verified, some of them asked for ahead; those are given up when it ends early. Throws as
 * {@link readPiece} does.
 */
export async function* readPieces(
  store: ObjectAccess,
  key: string,
  index: PieceIndex,
  { signal }: CallOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  const ending = new AbortController();
  const either = signal ? AbortSignal.any([signal, ending.signal]) : ending.signal;
  const ahead: Promise<Buffer>[] = [];
  let asked = 0;
  try {
    while (true) {
      for (; asked < index.pieces.length && ahead.length < piecesAhead; asked += 1) {
        const piece = readPiece(store, key, index, asked, { signal: either });
        // One that fails is told of in its turn.
        piece.catch(() => undefined);
        ahead.push(piece);
      }
      const next = ahead.shift();
      if (!next) return;
      yield await next;
    }
  } finally {
    ending.abort();
    await Promise.allSettled(ahead);
  }
}

/** Any range of an object, verified piece by piece; at most as much as fits into memory. */
export async function readVerified(
  store: ObjectAccess,
  key: string,
  index: PieceIndex,
  range: CallOptions & { readonly offset: number; readonly length: number },
): Promise<Buffer> {
  const { offset, length, signal } = range;
  const first = Math.floor(offset / pieceBytes);
  const pieces: Buffer[] = [];
  for (let number = first; number * pieceBytes < offset + length; number += 1) {
    pieces.push(await readPiece(store, key, index, number, { signal }));
  }
  const from = offset - first * pieceBytes;
  return Buffer.concat(pieces).subarray(from, from + length);
}

function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
