import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readFully, writeFully } from '../base/files.js';
import { CryoboxError, wrapHostError } from '../errors.js';
import { sshLimits } from './limits.js';

const pieceBytes = 256 * 1024;

/**
 * The content of one file in a temporary file of the host without a name, for clients that read and write at any offset
 * what a box gives and takes as a whole. It is filled from its source only as far as somebody reads.
 */
export class Spool {
  readonly #file: FileHandle;
  readonly #source: AsyncIterator<Uint8Array> | undefined;
  #filled = 0;
  #isWhole: boolean;
  #size = 0;

  private constructor(file: FileHandle, source: AsyncIterable<Uint8Array> | undefined) {
    this.#file = file;
    this.#source = source?.[Symbol.asyncIterator]();
    this.#isWhole = source === undefined;
  }

  /** A spool of what a source gives, or an empty one. Throws `disk_full`, `resource_exhausted`, `storage_error`. */
  static async open(source?: AsyncIterable<Uint8Array>): Promise<Spool> {
    const path = join(tmpdir(), `cryobox-sftp-${randomUUID()}`);
    try {
      const file = await open(path, 'wx+', 0o600);
      await rm(path, { force: true });
      return new Spool(file, source);
    } catch (error) {
      throw wrapHostError(error, `a file transfer needs a file in ${tmpdir()}`);
    }
  }

  /** Bytes of the whole content. */
  async size(): Promise<number> {
    await this.#fill(Number.POSITIVE_INFINITY);
    return this.#size;
  }

  /** Bytes from an offset on, fewer where the content ends. */
  async read(offset: number, length: number): Promise<Buffer> {
    await this.#fill(offset + length);
    const room = Buffer.alloc(Math.max(0, Math.min(length, this.#size - offset)));
    const done = await readFully(this.#file, room, offset);
    return room.subarray(0, done);
  }

  /** Writes at an offset, beyond the end too: zeros are between. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    checkSize(offset + bytes.length);
    await this.#fill(Number.POSITIVE_INFINITY);
    await this.#put(bytes, offset);
    this.#size = Math.max(this.#size, offset + bytes.length);
  }

  /** Cuts the content off, or adds zeros. */
  async truncate(size: number): Promise<void> {
    checkSize(size);
    await this.#fill(Number.POSITIVE_INFINITY);
    await this.#file.truncate(size);
    this.#size = size;
  }

  /** The whole content. */
  async *content(): AsyncGenerator<Uint8Array> {
    await this.#fill(Number.POSITIVE_INFINITY);
    for (let at = 0; at < this.#size; at += pieceBytes) yield await this.read(at, pieceBytes);
  }

  /** Lets go of the file and of the source. */
  async close(): Promise<void> {
    await this.#source?.return?.().catch(() => undefined);
    await this.#file.close();
  }

  async #fill(until: number): Promise<void> {
    while (!this.#isWhole && this.#filled < until) {
      const next = await this.#source?.next();
      if (!next || next.done) {
        this.#isWhole = true;
        return;
      }
      await this.#put(next.value, this.#filled);
      this.#filled += next.value.length;
      this.#size = this.#filled;
    }
  }

  async #put(bytes: Uint8Array, offset: number): Promise<void> {
    try {
      await writeFully(this.#file, bytes, offset);
    } catch (error) {
      throw wrapHostError(error, `a file transfer through ${tmpdir()}`);
    }
  }
}

function checkSize(bytes: number): void {
  if (bytes <= sshLimits.fileBytes) return;
  throw new CryoboxError(
    'payload_too_large',
    `a file has at most ${sshLimits.fileBytes} bytes, got ${bytes}`,
  );
}
