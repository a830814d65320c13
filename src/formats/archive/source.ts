/** The bytes of an archive's tar: seal taken off and compared, zstd unpacked. */
import { type FileHandle, open } from 'node:fs/promises';
import { abortable } from '../../base/abort.js';
import { errnoOf, isCryoboxError, messageOf, wrapHostError } from '../../errors.js';
import { invalidArchive } from './format.js';
import { decodeSeal, SEAL_BYTES, updateCrc } from './seal.js';
import { isZstd, startDecompress } from './zstd.js';

const READ_BYTES = 1024 * 1024;

/** The tar of an archive, being read. */
export class ArchiveSource {
  readonly #source: string | AsyncIterable<Uint8Array>;
  readonly #signal: AbortSignal | undefined;
  #closed = false;
  #handle: FileHandle | undefined;
  #archiveBytes = 0;
  #compressed = false;
  #sealed = false;

  /** When the signal is raised, a source that gives nothing more does not keep the reader waiting. */
  constructor(source: string | AsyncIterable<Uint8Array>, signal?: AbortSignal) {
    this.#source = source;
    this.#signal = signal;
  }

  /** Bytes of the archive read so far. */
  get archiveBytes(): number {
    return this.#archiveBytes;
  }

  /** Whether it is packed with zstd; known once a first byte was read. */
  get compressed(): boolean {
    return this.#compressed;
  }

  /** Whether it ends with a seal, which then was right; known at the end. */
  get sealed(): boolean {
    return this.#sealed;
  }

  /** The tar's bytes. Throws `archive_invalid`, `config_error` without zstd, and what the source throws. */
  async *bytes(): AsyncGenerator<Uint8Array> {
    const unsealed = this.#unsealed();
    try {
      const first = await unsealed.next();
      if (first.done) throw invalidArchive('it is empty');
      this.#compressed = isZstd(first.value);
      const all = prepend(first.value, unsealed);
      yield* this.#compressed ? unpacked(all, this.#handle?.fd) : all;
    } finally {
      // Not awaited: a source that gives nothing more would not answer.
      unsealed.return(undefined).catch(() => undefined);
    }
  }

  /** Closes the file, if it is one. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#handle?.close();
  }

  async *#raw(): AsyncGenerator<Uint8Array> {
    const signal = this.#signal;
    const chunks = typeof this.#source === 'string' ? this.#fileChunks(this.#source) : this.#source;
    yield* signal ? cancellable(chunks, signal) : chunks;
  }

  async *#fileChunks(path: string): AsyncGenerator<Buffer> {
    try {
      const handle = await open(path, 'r');
      // Whoever was cancelled did not wait for it to open.
      if (this.#closed) return await handle.close();
      this.#handle = handle;
      // Each chunk is copied or written out before the next is asked for.
      const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
      for (let at = 0; ; ) {
        // By position: the file's own position belongs to the zstd process that unpacks it.
        const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) return;
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } catch (error) {
      const code = errnoOf(error) === 'ENOENT' ? 'not_found' : 'storage_error';
      throw wrapHostError(error, `read archive ${path}`, code);
    }
  }

  /** Everything but a seal at the end; the first chunk has at least four bytes if there are as many. */
  async *#unsealed(): AsyncGenerator<Buffer> {
    let crc = 0;
    let held: Buffer = Buffer.alloc(0);
    for await (const chunk of this.#raw()) {
      this.#archiveBytes += chunk.length;
      // The last bytes wait until it is known whether they are the seal.
      if (held.length + chunk.length < SEAL_BYTES + 4) {
        held = Buffer.concat([held, chunk]);
        continue;
      }
      const all = held.length === 0 ? asBuffer(chunk) : Buffer.concat([held, chunk]);
      const pass = all.subarray(0, all.length - SEAL_BYTES);
      held = Buffer.from(all.subarray(pass.length));
      crc = updateCrc(crc, pass);
      yield pass;
    }
    const expected = decodeSeal(held);
    if (expected === undefined) {
      if (held.length > 0) yield held;
      return;
    }
    if (expected !== crc) throw invalidArchive('its checksum is wrong: it was changed or damaged');
    this.#sealed = true;
  }
}

async function* cancellable(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await abortable(chunks.next(), signal);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // Not awaited: a source that gives nothing more would not answer.
    chunks.return?.()?.catch(() => undefined);
  }
}

async function* prepend(first: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield first;
  yield* rest;
}

/**
 * Feeds a zstd process and gives what comes out; nothing of it is left running, however it ends. With `inputFd` the
 * process reads the file itself, which saves passing all of it on; it still is read here, for its checksum.
 */
async function* unpacked(packed: AsyncIterable<Buffer>, inputFd?: number): AsyncGenerator<Buffer> {
  const zstd = await startDecompress(inputFd);
  const feed = async (): Promise<void> => {
    for await (const chunk of packed) if (inputFd === undefined) await zstd.write(chunk);
    await zstd.end();
  };
  const fed = feed().catch((error: unknown) => {
    zstd.kill();
    throw error;
  });
  fed.catch(() => undefined);
  try {
    for await (const chunk of zstd.stdout) yield chunk as Buffer;
    await fed;
  } catch (error) {
    throw await reasonOf(fed, error);
  } finally {
    zstd.kill();
    await zstd.ended.catch(() => undefined);
  }
}

async function reasonOf(fed: Promise<void>, fallback: unknown): Promise<unknown> {
  const error = await fed.then(
    () => fallback,
    (reason: unknown) => reason,
  );
  // What zstd itself complains about is the archive's fault.
  if (isCryoboxError(error, 'storage_error') && error.message.startsWith('zstd')) {
    return invalidArchive(`it cannot be unpacked: ${messageOf(error)}`, error);
  }
  return error;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
