/** Reads a stream of chunks as counted bytes, without copying more than a call asks for. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;
  #offset = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  /** At least one byte and at most `limit`, as they lie in memory; undefined at the end of the stream. */
  async readSome(limit: number): Promise<Buffer | undefined> {
    if (this.#at === this.#chunk.length && !(await this.#refill())) return undefined;
    const bytes = this.#chunk.subarray(this.#at, this.#at + limit);
    this.#advance(bytes.length);
    return bytes;
  }

  /** Exactly `count` bytes, fewer where the stream ends before, undefined when it has ended already. */
  async readExactly(count: number): Promise<Buffer | undefined> {
    const first = await this.readSome(count);
    if (!first || first.length === count) return first;
    const parts = [first];
    for (let have = first.length; have < count; ) {
      const part = await this.readSome(count - have);
      if (!part) break;
      parts.push(part);
      have += part.length;
    }
    return Buffer.concat(parts);
  }

  /** Passes over `count` bytes; false where the stream ends before. */
  async skip(count: number): Promise<boolean> {
    for (let left = count; left > 0; ) {
      const bytes = await this.readSome(left);
      if (!bytes) return false;
      left -= bytes.length;
    }
    return true;
  }

  /** Ends the source, so that files and processes behind it are released. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  #advance(count: number): void {
    this.#at += count;
    this.#offset += count;
  }

  async #refill(): Promise<boolean> {
    for (;;) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      if (next.value.length === 0) continue;
      this.#chunk = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
      this.#at = 0;
      return true;
    }
  }
}
