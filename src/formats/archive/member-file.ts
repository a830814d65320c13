import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { wrapHostError } from '../../errors.js';

/** Bytes gathered before they are hashed and written. */
const BUFFER_BYTES = 1024 * 1024;
/** Zeros of this length and alignment are left out of the file: a qcow2 cluster. */
const HOLE_BYTES = 65_536;
const zeros = Buffer.alloc(HOLE_BYTES);

/** A member's file while it is filled: hashed, and sparse where there are zeros. */
export class MemberFile {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #hash = createHash('sha256');
  /** One is filled while the other is being written. */
  #buffer: Buffer;
  #spare: Buffer;
  #filled = 0;
  #position = 0;
  #storedBytes = 0;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, handle: FileHandle, sizeBytes: number) {
    this.#path = path;
    this.#handle = handle;
    const bufferBytes = Math.min(BUFFER_BYTES, Math.ceil((sizeBytes + 1) / HOLE_BYTES) * HOLE_BYTES);
    this.#buffer = Buffer.allocUnsafeSlow(bufferBytes);
    this.#spare = Buffer.allocUnsafeSlow(bufferBytes);
  }

  /** Creates the file, which must not exist, for `sizeBytes` to come. Throws `storage_error`, `disk_full`. */
  static async create(path: string, sizeBytes: number): Promise<MemberFile> {
    try {
      return new MemberFile(path, await open(path, 'wx', 0o600), sizeBytes);
    } catch (error) {
      throw wrapHostError(error, `create ${basename(path)}`);
    }
  }

  /** Bytes that take disk so far. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** Appends bytes; they may be changed afterwards. Throws `storage_error`, `disk_full`. */
  async write(bytes: Buffer): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const copied = bytes.copy(this.#buffer, this.#filled, done);
      this.#filled += copied;
      done += copied;
      if (this.#filled === this.#buffer.length) await this.#flush();
    }
  }

  /** Writes what is left and closes the file; returns the SHA-256 of all of it in hex. */
  async finish(durable: boolean): Promise<string> {
    await this.#flush();
    try {
      await this.#writing;
      await this.#handle.truncate(this.#position);
      if (durable) await this.#handle.sync();
      await this.#handle.close();
    } catch (error) {
      throw wrapHostError(error, `write ${basename(this.#path)}`);
    }
    return this.#hash.digest('hex');
  }

  /** Closes the file, whatever happened. */
  async abort(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#handle.close().catch(() => undefined);
  }

  async #flush(): Promise<void> {
    const bytes = this.#buffer.subarray(0, this.#filled);
    await this.#writing;
    this.#writing = this.#writeRuns(bytes, this.#position);
    // It is awaited before the next one; a failure until then is not an unhandled one.
    this.#writing.catch(() => undefined);
    this.#position += bytes.length;
    [this.#buffer, this.#spare] = [this.#spare, this.#buffer];
    this.#filled = 0;
    this.#hash.update(bytes);
  }

  async #writeRuns(bytes: Buffer, position: number): Promise<void> {
    for (let from = 0; from < bytes.length; ) {
      const empty = isHole(bytes, from);
      let to = from + HOLE_BYTES;
      while (to < bytes.length && isHole(bytes, to) === empty) to += HOLE_BYTES;
      if (!empty) await this.#writeFully(bytes.subarray(from, to), position + from);
      from = to;
    }
  }

  async #writeFully(bytes: Buffer, position: number): Promise<void> {
    this.#storedBytes += bytes.length;
    try {
      for (let done = 0; done < bytes.length; ) {
        const rest = bytes.length - done;
        const { bytesWritten } = await this.#handle.write(bytes, done, rest, position + done);
        done += bytesWritten;
      }
    } catch (error) {
      throw wrapHostError(error, `write ${basename(this.#path)}`);
    }
  }
}

function isHole(bytes: Buffer, from: number): boolean {
  if (bytes[from] !== 0) return false;
  const length = Math.min(HOLE_BYTES, bytes.length - from);
  return bytes.compare(zeros, 0, length, from, from + length) === 0;
}
