import { Readable, Writable } from 'node:stream';
import type { CryoboxError } from '../errors.js';

/** Bytes a sender may be ahead of its receiver (docs/PROTOCOL.md, section 5); the same number is in the agent. */
const windowBytes = 256 * 1024;
/** Credit is granted in steps of this, so that it costs few frames. */
const creditStepBytes = windowBytes / 4;
/** Largest data frame sent: other streams wait no longer than for one of these. */
const chunkBytes = 32 * 1024;

/** What a stream needs of its connection. */
export interface StreamWire {
  /** Queues a frame; the promise is there, and resolves, when the caller should wait before sending more. */
  send(header: Record<string, unknown>, payload?: Uint8Array): Promise<void> | undefined;
  /** Queues a small frame that nobody waits for. */
  post(header: Record<string, unknown>): void;
  /** The stream takes part no more. */
  release(stream: number): void;
}

/** Bytes from the guest. Reading grants credit; a reader that stops holds the guest's process back. */
export class GuestReadable extends Readable {
  readonly id: number;
  readonly #wire: StreamWire;
  #received: number;
  #granted: number;
  #floating: boolean;
  #over = false;

  /** @param floating the first byte may be at any offset: the stream joins one that has begun. */
  constructor(wire: StreamWire, id: number, floating = false) {
    super({ highWaterMark: creditStepBytes });
    this.#wire = wire;
    this.id = id;
    this.#received = 0;
    this.#granted = windowBytes;
    this.#floating = floating;
    // Whoever reads hears of an error by reading; nobody else needs to.
    this.on('error', () => undefined);
  }

  /** Offset after the last byte received: where a later attach goes on. */
  get receivedTo(): number {
    return this.#received;
  }

  /** Where a floating stream starts, as the answer to an attach said; data may have told it before. */
  startAt(at: number): void {
    if (!this.#floating) return;
    this.#floating = false;
    this.#received = at;
    this.#granted = at + windowBytes;
  }

  /** A data frame has come. False when it does not fit what came before. */
  accept(at: unknown, payload: Uint8Array): boolean {
    if (this.#over) return true;
    if (typeof at === 'number') this.startAt(at);
    if (at !== this.#received || this.#received + payload.byteLength > this.#granted) return false;
    this.#received += payload.byteLength;
    if (payload.byteLength > 0) this.push(payload);
    return true;
  }

  /** The end has come. */
  finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#wire.release(this.id);
    this.push(null);
  }

  /** The other side has given up, or the connection is gone. */
  fail(error: CryoboxError): void {
    if (this.#over) return;
    this.#over = true;
    this.#wire.release(this.id);
    this.destroy(error);
  }

  override _read(): void {
    // Called before the reader's bytes leave the buffer: what they free shows only afterwards.
    queueMicrotask(() => this.#grant());
  }

  #grant(): void {
    if (this.#over || this.#floating) return;
    const granted = this.#received - this.readableLength + windowBytes;
    if (granted - this.#granted < creditStepBytes) return;
    this.#granted = granted;
    this.#wire.post({ s: this.id, credit: granted });
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!this.#over) {
      this.#over = true;
      this.#wire.release(this.id);
      this.#wire.post({ s: this.id, reset: { code: 'cancelled', message: 'the reader has gone' } });
    }
    callback(error);
  }
}

/** Bytes to the guest. A write is done when the connection has taken it within the guest's credit. */
export class GuestWritable extends Writable {
  readonly id: number;
  readonly #wire: StreamWire;
  #sent = 0;
  #credit = windowBytes;
  #over = false;
  #wake: (() => void) | undefined;

  constructor(wire: StreamWire, id: number) {
    super({ highWaterMark: creditStepBytes, decodeStrings: true });
    this.#wire = wire;
    this.id = id;
    // A guest that stops reading is no failure of whoever does not listen for it.
    this.on('error', () => undefined);
  }

  /** The stream goes on at an offset, as the answer to an attach said. */
  startAt(at: number): void {
    if (this.#sent !== 0) return;
    this.#sent = at;
    this.#credit = at + windowBytes;
  }

  /** Offset behind the last byte that the guest's process has taken, as far as the guest has said. */
  get takenTo(): number {
    return this.#credit - windowBytes;
  }

  /** The guest takes bytes up to this offset. */
  grant(credit: unknown): void {
    if (typeof credit !== 'number' || credit <= this.#credit) return;
    this.#credit = credit;
    this.#wake?.();
  }

  /** The guest takes no more, or the connection is gone. */
  fail(error: CryoboxError): void {
    if (this.#over) return;
    this.#over = true;
    this.#wire.release(this.id);
    this.destroy(error);
    this.#wake?.();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#sendAll(chunk).then(() => callback(), callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (!this.#over) {
      this.#over = true;
      this.#wire.post({ s: this.id, at: this.#sent, end: true });
      this.#wire.release(this.id);
    }
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!this.#over) {
      this.#over = true;
      this.#wire.release(this.id);
      this.#wire.post({ s: this.id, reset: { code: 'cancelled', message: 'the writer has gone' } });
    }
    this.#wake?.();
    callback(error);
  }

  async #sendAll(chunk: Buffer): Promise<void> {
    let rest = chunk;
    while (rest.length > 0 && !this.#over) {
      const count = Math.min(rest.length, chunkBytes, this.#credit - this.#sent);
      if (count === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
        continue;
      }
      const wait = this.#wire.send({ s: this.id, at: this.#sent }, rest.subarray(0, count));
      this.#sent += count;
      rest = rest.subarray(count);
      if (wait !== undefined) await wait;
    }
  }
}
