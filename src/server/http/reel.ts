import { randomUUID } from 'node:crypto';
import type { ByteSource, Execution } from '../../api/index.js';

/**
 * Bytes of one stream kept until their client has them; beyond it the command waits. A connection that breaks loses
 * what lay in its buffers, which is why it is kept here until then.
 */
const windowBytes = 256 * 1024;

/** One stream of a command: what it wrote, from the first byte its client may still need. */
export class Tape {
  /** Offset of the first byte that is kept, counted from the first the command wrote. */
  #start: number;
  /** Offset behind the last byte. */
  #end: number;
  /** Nothing before this offset is needed. */
  #floor = 0;
  readonly #chunks: Uint8Array[] = [];
  #done = false;
  #failure: unknown;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;

  /** `at`: offset of the first byte that will come. */
  constructor(source: ByteSource, at: number) {
    this.#start = at;
    this.#end = at;
    this.#record(source)
      .catch((error: unknown) => {
        this.#failure = error;
      })
      .finally(() => {
        this.#done = true;
        this.#wakeReader?.();
      });
  }

  /** Offset of the first byte that is kept. */
  get start(): number {
    return this.#start;
  }

  async #record(source: ByteSource): Promise<void> {
    for await (const chunk of source) {
      this.#chunks.push(chunk);
      this.#end += chunk.length;
      this.#trim();
      this.#wakeReader?.();
      while (this.#end - this.#start >= windowBytes) {
        await new Promise<void>((resolve) => {
          this.#wakeWriter = resolve;
        });
      }
    }
  }

  /** The bytes from an offset on, as far as there are any in one piece; undefined at the end. Waits for more. */
  async read(at: number): Promise<Uint8Array | undefined> {
    while (at >= this.#end && !this.#done) {
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
    if (at >= this.#end) {
      if (this.#failure !== undefined) throw this.#failure;
      return undefined;
    }
    let offset = this.#start;
    for (const chunk of this.#chunks) {
      if (at < offset + chunk.length) return chunk.subarray(at - offset);
      offset += chunk.length;
    }
    return undefined;
  }

  /** Forgets everything before an offset: the client has it. */
  release(upTo: number): void {
    this.#floor = Math.max(this.#floor, upTo);
    this.#trim();
    if (this.#end - this.#start < windowBytes) this.#wakeWriter?.();
  }

  #trim(): void {
    for (let first = this.#chunks[0]; first && this.#start < this.#floor; first = this.#chunks[0]) {
      const gone = Math.min(first.length, this.#floor - this.#start);
      this.#start += gone;
      if (gone === first.length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(gone);
    }
  }
}

/** A command and its streams, which one client after the other may follow. */
export class Reel {
  /** Names the count of `stdinBytes`. */
  readonly id = randomUUID();
  readonly execution: Execution;
  readonly stdout: Tape;
  readonly stderr: Tape;
  /** Bytes handed to the command's stdin. */
  stdinBytes = 0;

  constructor(execution: Execution) {
    this.execution = execution;
    // What was dropped is all that came before what an attach gives.
    this.stdout = new Tape(execution.stdout, execution.droppedBytes.stdout);
    this.stderr = new Tape(execution.stderr, execution.droppedBytes.stderr);
  }
}
