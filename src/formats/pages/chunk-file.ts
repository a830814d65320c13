import { webcrypto } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { wrapHostError } from '../../errors.js';
import { CHUNK_BYTES, DIGEST_BYTES } from './layer-map.js';

/** Chunks being hashed and written at once: the bound of a capture's memory, 8 MiB. */
const maxChunksInFlight = 8;

/** A piece of a chunk that must reach the disk. */
interface ChunkPiece {
  readonly start: number;
  readonly end: number;
}

/**
 * Writes a data file chunk by chunk; the thread pool hashes and writes a few of them at a time. Chunks are added in order
 * and begin at multiples of {@link CHUNK_BYTES}. A chunk's memory comes from `chunk()` and goes back by itself.
 */
export class ChunkFile {
  readonly #handle: FileHandle;
  readonly #what: string;
  readonly #digests: Buffer[] = [];
  readonly #free: Buffer[] = [];
  #inFlight = new Set<Promise<void>>();
  #failure: unknown;

  /** The handle stays the caller's: who opened it syncs and closes it. `what` is named in errors. */
  constructor(handle: FileHandle, what: string) {
    this.#handle = handle;
    this.#what = what;
  }

  /** Memory for one chunk; waits while too many are under way. */
  async chunk(): Promise<Buffer> {
    while (this.#inFlight.size >= maxChunksInFlight) await Promise.race(this.#inFlight);
    this.#throwFailure();
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
  }

  /** Adds the next chunk, `length` bytes of `chunk`; only `pieces` are written, the rest is known to be zero. */
  add(chunk: Buffer, length: number, pieces: readonly ChunkPiece[]): void {
    const index = this.#digests.length;
    this.#digests.push(Buffer.alloc(DIGEST_BYTES));
    if (pieces.length === 0) {
      this.#free.push(chunk);
      return;
    }
    const hashed = webcrypto.subtle.digest('SHA-256', chunk.subarray(0, length)).then((digest) => {
      this.#digests[index] = Buffer.from(digest);
    });
    const written = pieces.map((piece) => this.#write(chunk, piece, index * CHUNK_BYTES));
    const task = Promise.all([hashed, ...written])
      .then(
        () => {
          this.#free.push(chunk);
        },
        (error: unknown) => {
          this.#failure ??= error;
        },
      )
      .finally(() => this.#inFlight.delete(task));
    this.#inFlight.add(task);
  }

  /** Adds the next chunk, which is all zero and not written. */
  addZero(): void {
    this.#digests.push(Buffer.alloc(DIGEST_BYTES));
  }

  /** Adds the next chunk, which the file holds already but for `pieces`. */
  addExisting(chunk: Buffer, length: number, pieces: readonly ChunkPiece[]): void {
    // An empty piece: there is something to hash even where there is nothing to write.
    this.add(chunk, length, [{ start: 0, end: 0 }, ...pieces]);
  }

  /** Waits for everything and sets the length. Returns the digests. */
  async finish(lengthBytes: number): Promise<Buffer> {
    await Promise.all(this.#inFlight);
    this.#throwFailure();
    try {
      await this.#handle.truncate(lengthBytes);
    } catch (error) {
      throw wrapHostError(error, `writing ${this.#what}`);
    }
    return Buffer.concat(this.#digests);
  }

  /** Waits for what is under way, after a failure: only then may the file be closed. */
  async abandon(): Promise<void> {
    await Promise.all(this.#inFlight);
  }

  async #write(chunk: Buffer, piece: ChunkPiece, base: number): Promise<void> {
    let at = piece.start;
    while (at < piece.end) {
      const { bytesWritten } = await this.#handle.write(chunk, at, piece.end - at, base + at);
      at += bytesWritten;
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw wrapHostError(this.#failure, `writing ${this.#what}`);
  }
}
