import { invalidArchive } from './format.js';

/** Takes a stream of chunks apart by lengths. */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Up to `length` bytes, at least one; undefined at the end. */
  async some(length: number): Promise<Buffer | undefined> {
    while (this.#chunk.length === 0) {
      const next = await this.#source.next();
      if (next.done) return undefined;
      this.#chunk = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    const taken = this.#chunk.subarray(0, length);
    this.#chunk = this.#chunk.subarray(taken.length);
    return taken;
  }

  /** Exactly `length` bytes, for small lengths. Throws `archive_invalid` when the stream ends before. */
  async exactly(length: number, what: string): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of this.stream(length, what)) parts.push(Buffer.from(part));
    return Buffer.concat(parts);
  }

  /** Exactly `length` bytes in pieces, each valid until the next. Throws as {@link exactly}. */
  async *stream(length: number, what: string): AsyncGenerator<Buffer> {
    for (let left = length; left > 0; ) {
      const part = await this.some(left);
      if (!part) throw invalidArchive(`it ends inside ${what}`);
      left -= part.length;
      yield part;
    }
  }
}
