import { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { CryoboxError, isCryoboxError, wrapHostError } from '../errors.js';
import { takeChunk } from './byte-source.js';

/** A connection to a port of a box, as whoever has it gives it. */
export interface PortHalves {
  readonly input: {
    /** Sends bytes; resolves when there is room for more. */
    write(chunk: Uint8Array): Promise<void>;
    /** Says that no more bytes come. */
    end(): Promise<void>;
  };
  readonly output: AsyncIterable<Uint8Array>;
  /** Ends both directions at once. `inOrder`: both have ended, and what was sent is still to arrive. */
  close(inOrder: boolean): Promise<void>;
  /** Whether the connection keeps the process alive. Absent where something else does. */
  hold?(holds: boolean): void;
}

/** Bytes taken ahead of the reader, and of the writer, in each direction. */
const aheadBytes = 64 * 1024;

/**
 * A connection to a port of a box as a stream of Node. Its two directions end each on its own unless `allowHalfOpen` is
 * false. When the box goes it fails with a {@link CryoboxError}. Once the program in the box takes no more, the rest of what
 * is written is dropped as long as somebody reads, for the answer is still wanted; then the stream fails.
 */
export class PortStream extends Duplex {
  /** Of the last {@link setTimeout}: milliseconds, 0 for none. */
  timeout = 0;
  /** What is sent, by promises. */
  readonly input = {
    write: (chunk: Uint8Array): Promise<void> => this.#writeOne(chunk),
    end: (): Promise<void> => this.#endInput(),
  };
  /** What is received. Leaving the loop leaves the connection open. */
  readonly output: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () =>
      this.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Uint8Array>,
  };
  readonly #halves: PortHalves;
  readonly #bytes: AsyncIterator<Uint8Array>;
  #idle: NodeJS.Timeout | undefined;
  /** Why the program takes no more. */
  #lost: CryoboxError | undefined;
  #drops = false;

  constructor(halves: PortHalves, { allowHalfOpen = true }: { readonly allowHalfOpen?: boolean } = {}) {
    super({ allowHalfOpen, highWaterMark: aheadBytes });
    this.#halves = halves;
    this.#bytes = halves.output[Symbol.asyncIterator]();
    // Who reads or writes hears of it there: a connection that nobody uses any more must not end the process.
    this.on('error', () => undefined);
    this.once('end', () => {
      if (this.#lost && !this.#drops) this.destroy(this.#lost);
    });
  }

  /** Ends both directions at once; resolves when that is done. */
  readonly close = async (): Promise<void> => {
    this.destroy();
    if (!this.closed) await new Promise<void>((resolve) => this.once('close', resolve));
  };

  /** From now on it is no failure that the program takes no more. */
  dropUntaken(): void {
    this.#drops = true;
  }

  /** Emits `timeout` when no byte has come or gone for so long; 0: never. */
  setTimeout(ms: number, listener?: () => void): this {
    clearTimeout(this.#idle);
    this.timeout = ms;
    this.#idle = ms > 0 ? setTimeout(() => this.emit('timeout'), ms).unref() : undefined;
    if (listener && ms > 0) this.once('timeout', listener);
    else if (listener) this.off('timeout', listener);
    return this;
  }

  /** Without effect: no network lies between the box and its host. */
  setKeepAlive(): this {
    return this;
  }

  /** Without effect: nothing waits to be sent. */
  setNoDelay(): this {
    return this;
  }

  /** The connection keeps the process alive, as it does at first. */
  ref(): this {
    this.#halves.hold?.(true);
    return this;
  }

  /** The connection does not keep the process alive. */
  unref(): this {
    this.#halves.hold?.(false);
    return this;
  }

  override _read(): void {
    this.#bytes.next().then(
      ({ done, value }) => {
        this.#idle?.refresh();
        if (!this.destroyed) this.push(done ? null : value);
      },
      (error: unknown) => this.destroy(wrapHostError(error, 'the connection', 'network_unavailable')),
    );
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#idle?.refresh();
    if (this.#lost) done(this.#told());
    else this.#give(this.#halves.input.write(chunk), () => done(this.#told()));
  }

  override _final(done: (error?: Error | null) => void): void {
    const end = (): void => done(this.#drops ? null : (this.#lost ?? null));
    if (this.#lost) end();
    else this.#give(this.#halves.input.end(), end);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#idle);
    const inOrder = error === null && this.readableEnded && this.writableFinished;
    this.#halves.close(inOrder).then(
      () => done(error),
      () => done(error),
    );
  }

  #give(task: Promise<void>, done: () => void): void {
    task.then(done, (cause: unknown) => {
      this.#lost = takesNoMore(cause);
      done();
    });
  }

  /** What a write fails with now. While somebody reads, the answer comes first. */
  #told(): CryoboxError | null {
    const isRead = this.readableFlowing !== null && !this.readableEnded;
    return this.#drops || isRead ? null : (this.#lost ?? null);
  }

  async #writeOne(chunk: Uint8Array): Promise<void> {
    const bytes = takeChunk(chunk, 'the chunk');
    if (this.destroyed || this.writableEnded) throw this.#ended();
    await new Promise<void>((resolve, reject) => {
      this.write(bytes, (error) => (error || this.#lost ? reject(this.#ended()) : resolve()));
    });
  }

  async #endInput(): Promise<void> {
    this.end();
    await finished(this, { readable: false }).catch(() => {
      throw this.#ended();
    });
  }

  #ended(): CryoboxError {
    if (isCryoboxError(this.errored)) return this.errored;
    return this.#lost ?? new CryoboxError('network_unavailable', 'the connection was closed on this side');
  }
}

function takesNoMore(cause: unknown): CryoboxError {
  return new CryoboxError('network_unavailable', 'the program in the box takes no more bytes', {
    cause,
    hint: 'It has closed the connection, or ended; look at what it answered.',
  });
}
