/** Bytes in order from who has them to one reader; the holder learns when some were taken. */
export class ByteQueue implements AsyncIterable<Uint8Array> {
  readonly #chunks: Uint8Array[] = [];
  readonly #onTaken: (bytes: number) => void;
  #ended = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(onTaken: (bytes: number) => void) {
    this.#onTaken = onTaken;
  }

  /** Adds bytes; after the end they are dropped. */
  push(chunk: Uint8Array): void {
    if (this.#ended) {
      this.#onTaken(chunk.length);
    } else {
      this.#chunks.push(chunk);
      this.#wake?.();
    }
  }

  /** Ends the queue: the reader gets what is in it, then the failure if there is one. */
  end(failure?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk) {
          this.#onTaken(chunk.length);
          yield chunk;
        } else if (this.#ended) {
          if (this.#failure) throw this.#failure;
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      // Who stops reading wants no more: the rest must not stand in the way of the other streams.
      this.#ended = true;
      for (const chunk of this.#chunks.splice(0)) this.#onTaken(chunk.length);
    }
  }
}
