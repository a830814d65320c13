import type { Bytes, StdinWriter } from '../../api/index.js';
import { takeChunk } from '../../base/byte-source.js';
import { CryoboxError } from '../../errors.js';
import type { GuestWritable } from '../../guest/index.js';

/**
 * A command's stdin that goes on over a pause of its box: what the guest has not taken yet is kept, at most one window of
 * the stream and what is being written, and sent again to the next machine.
 */
export class SteadyStdin implements StdinWriter {
  readonly #kept: Buffer[] = [];
  /** Offset of the first byte kept, from the command's first. */
  #start: number;
  #stream: GuestWritable;
  #isEnded = false;
  /** Settles once a stream that failed has a successor, which was given what is kept; rejects when it gets none. */
  readonly #succeed: (error: unknown) => Promise<void>;

  constructor(stream: GuestWritable, succeed: (error: unknown) => Promise<void>) {
    this.#stream = stream;
    this.#start = stream.takenTo;
    this.#succeed = succeed;
  }

  async write(chunk: Bytes): Promise<void> {
    if (this.#isEnded) throw new CryoboxError('invalid_state', 'stdin was closed already');
    // A copy: it may be sent again after the caller has changed its buffer.
    const bytes = Buffer.from(takeChunk(chunk, 'the chunk'));
    this.#kept.push(bytes);
    await this.#steadily((stream) => writeTo(stream, bytes));
    this.#forgetTaken();
  }

  async end(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    await this.#steadily(endOf);
  }

  /** Goes on with the stream of the next machine, which says what the guest has taken already. */
  async goOn(stream: GuestWritable): Promise<void> {
    this.#stream = stream;
    this.#forgetTaken();
    // All at once: what is written from now on comes behind it.
    const sent = this.#kept.map((bytes) => writeTo(stream, bytes));
    if (this.#isEnded) sent.push(endOf(stream));
    await Promise.all(sent);
    this.#forgetTaken();
  }

  async #steadily(task: (stream: GuestWritable) => Promise<void>): Promise<void> {
    try {
      await task(this.#stream);
    } catch (error) {
      await this.#succeed(error);
    }
  }

  #forgetTaken(): void {
    const { takenTo } = this.#stream;
    for (let first = this.#kept[0]; first && this.#start < takenTo; first = this.#kept[0]) {
      const taken = Math.min(first.length, takenTo - this.#start);
      this.#start += taken;
      if (taken === first.length) this.#kept.shift();
      else this.#kept[0] = first.subarray(taken);
    }
  }
}

function writeTo(stream: GuestWritable, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

function endOf(stream: GuestWritable): Promise<void> {
  return new Promise((resolve, reject) => {
    if (stream.writableEnded || stream.destroyed) resolve();
    else stream.end((error?: Error | null) => (error ? reject(error) : resolve()));
  });
}
