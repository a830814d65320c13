import type { FileEvent, FileWatch } from '../api/index.js';

/** Events on their way to one reader. */
class EventWatch implements FileWatch {
  readonly #events: AsyncGenerator<FileEvent>;
  readonly #end: () => void;
  readonly #signal: AbortSignal | undefined;
  #isClosed = false;

  constructor(source: AsyncIterable<FileEvent>, end: () => void, signal: AbortSignal | undefined) {
    this.#events = this.#read(source);
    this.#end = end;
    this.#signal = signal;
  }

  [Symbol.asyncIterator](): AsyncGenerator<FileEvent> {
    return this.#events;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async *#read(source: AsyncIterable<FileEvent>): AsyncGenerator<FileEvent> {
    try {
      for await (const event of source) {
        if (this.#isClosed) return;
        yield event;
      }
    } catch (error) {
      if (!this.#isClosed && !this.#signal?.aborted) throw error;
    } finally {
      this.#end();
    }
  }
}

/**
 * A watch over where its events come from. `end` ends the source, and may be called again. What the source fails with after
 * a close, or once the signal was raised, is its end.
 */
export function watchOf(
  source: AsyncIterable<FileEvent>,
  end: () => void,
  signal: AbortSignal | undefined,
): FileWatch {
  return new EventWatch(source, end, signal);
}
