/** One way to take bytes from a caller, in whatever form it has them. */
import { isReadable, Readable } from 'node:stream';
import { isAnyArrayBuffer } from 'node:util/types';
import { CryoboxError } from '../errors.js';

/** A source of bytes that was taken: read once, then released. */
export interface TakenBytes extends AsyncIterable<Uint8Array> {
  /** What the source failed with; undefined as long as it has not. */
  readonly failure: { readonly error: unknown } | undefined;
  /** Ends what is not read: streams are destroyed or cancelled. Never throws. */
  release(): void;
}

const taken =
  'a string, bytes (Buffer, ArrayBuffer, a view), a Blob or File, or a stream or iterable of strings or bytes';

/**
 * Takes what a caller gives for bytes: a string (UTF-8), Buffer, ArrayBuffer or SharedArrayBuffer, a view of one, Blob,
 * File, web ReadableStream, Node Readable, or a sync or async iterable of strings and bytes. `what` names it in errors.
 * Throws `invalid_argument` at once for everything else, and for a stream that is of objects, was read from, is locked,
 * has ended or has failed; reading fails with it when an iterable gives something else.
 */
export function takeBytes(input: unknown, what: string): TakenBytes {
  const whole = wholeBytes(input);
  if (whole) return new Taken([whole], what);
  if (typeof input !== 'object' || input === null) throw refused(what, `is ${nameOf(input)}`);
  if (isBlob(input)) return takeBytes(input.stream(), what);
  if (input instanceof Readable || isNodeStream(input)) return takeStream(input as Readable, what);
  if (isWebStream(input)) {
    if (input.locked || Readable.isDisturbed(input as never))
      throw refused(what, 'is a stream that was read from');
    const reader = input.getReader();
    return new Taken(readAll(reader), what, () => {
      reader.cancel().catch(() => undefined);
    });
  }
  if ('destroyed' in input && input.destroyed === true) throw refused(what, 'is a stream that has ended');
  if (Array.isArray(input)) for (const item of input) itemBytes(item, what);
  if (Symbol.asyncIterator in input || Symbol.iterator in input) {
    return new Taken(input as AsyncIterable<unknown>, what);
  }
  throw refused(what, `is ${nameOf(input)}`);
}

/** The bytes of one piece that is there as a whole: a string (UTF-8), a buffer or a view. Throws `invalid_argument`. */
export function takeChunk(chunk: unknown, what: string): Uint8Array {
  const bytes = wholeBytes(chunk);
  if (!bytes)
    throw refused(what, `is ${nameOf(chunk)}`, 'Give a string, Buffer, ArrayBuffer or a view of one.');
  return bytes;
}

/**
 * Runs a task that reads what {@link takeBytes} takes of `input`. When the source fails, that is the failure, not what
 * the task makes of its end. However the task ends, the source is released.
 */
export async function withBytes<T>(
  input: unknown,
  what: string,
  task: (source: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  const source = takeBytes(input, what);
  try {
    return await task(source);
  } catch (error) {
    throw source.failure ? source.failure.error : error;
  } finally {
    source.release();
  }
}

class Taken implements TakenBytes {
  readonly #source: Iterable<unknown> | AsyncIterable<unknown>;
  readonly #what: string;
  readonly #release: () => void;
  readonly #encoding: BufferEncoding | undefined;
  failure: { readonly error: unknown } | undefined;

  constructor(
    source: Iterable<unknown> | AsyncIterable<unknown>,
    what: string,
    release: () => void = () => undefined,
    encoding?: BufferEncoding,
  ) {
    this.#source = source;
    this.#what = what;
    this.#release = release;
    this.#encoding = encoding;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    if (this.failure) throw this.failure.error;
    const items = this.#items();
    for (;;) {
      let bytes: Uint8Array;
      try {
        const next = await items.next();
        if (next.done) return;
        bytes = next.value;
      } catch (error) {
        this.failure ??= { error };
        throw this.failure.error;
      }
      let isRead = false;
      try {
        yield bytes;
        isRead = true;
      } finally {
        // The reader has stopped. A source that fails at this tells nobody anything.
        if (!isRead) await items.return(undefined).catch(() => undefined);
      }
    }
  }

  release(): void {
    this.#release();
  }

  async *#items(): AsyncGenerator<Uint8Array> {
    for await (const item of this.#source) {
      const bytes = itemBytes(item, this.#what, this.#encoding);
      if (bytes.length > 0) yield bytes;
    }
  }
}

/** A stream may fail before it is read: somebody must listen from the start. */
function takeStream(stream: Readable, what: string): TakenBytes {
  if (stream.errored) throw refused(what, `is a stream that has failed: ${stream.errored.message}`);
  if (isReadable(stream) === false) throw refused(what, 'is a stream that cannot be read, or has ended');
  if (Readable.isDisturbed(stream)) throw refused(what, 'is a stream that was read from');
  if (stream.readableObjectMode) {
    throw refused(
      what,
      'is a stream in object mode',
      'Make it with objectMode: false, or give what it is made from.',
    );
  }
  const encoding = stream.readableEncoding ?? undefined;
  const source = new Taken(stream, what, () => stream.destroy(), encoding);
  stream.on('error', (error) => {
    source.failure ??= { error };
  });
  return source;
}

async function* readAll(reader: ReadableStreamDefaultReader<unknown>): AsyncGenerator<unknown> {
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

/** The bytes of what is there as a whole, or undefined. */
function wholeBytes(input: unknown, encoding?: BufferEncoding): Uint8Array | undefined {
  if (typeof input === 'string') return Buffer.from(input, encoding);
  if (ArrayBuffer.isView(input)) return bytesOf(input.buffer, input.byteOffset, input.byteLength);
  return isAnyArrayBuffer(input) ? bytesOf(input as ArrayBufferLike, 0, input.byteLength) : undefined;
}

/** What other threads share may change while it is sent, so it is copied. */
function bytesOf(buffer: ArrayBufferLike, at: number, length: number): Uint8Array {
  const bytes = Buffer.from(buffer, at, length);
  return buffer instanceof ArrayBuffer ? bytes : Buffer.from(bytes);
}

function itemBytes(item: unknown, what: string, encoding?: BufferEncoding): Uint8Array {
  const bytes = wholeBytes(item, encoding);
  if (!bytes) throw refused(what, `gives ${nameOf(item)}`);
  return bytes;
}

function isBlob(input: object): input is Blob {
  const tag = (input as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag];
  return (tag === 'Blob' || tag === 'File') && typeof (input as Blob).stream === 'function';
}

function isWebStream(input: object): input is ReadableStream<unknown> {
  return typeof (input as ReadableStream).getReader === 'function' && 'locked' in input;
}

function isNodeStream(input: object): boolean {
  return 'readableObjectMode' in input && typeof (input as Readable).on === 'function';
}

function nameOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  if (value instanceof Promise) return 'a Promise, which is to be awaited first';
  return `an object (${value.constructor?.name || 'Object'})`;
}

function refused(what: string, fault: string, hint?: string): CryoboxError {
  return new CryoboxError('invalid_argument', `${what} ${fault}; expected ${taken}`, hint ? { hint } : {});
}
