import { type FileHandle, open } from 'node:fs/promises';
import { writeFully } from '../../base/files.js';
import { blockSize } from './geometry.js';

/** Bytes gathered before a write: large enough that small files cost no system call each. */
const bufferBytes = 1024 * 1024;

/**
 * Writes blocks in ascending runs through one buffer while the write before is still under way. Blocks never written
 * stay holes of the host's file and read as zeros.
 */
class SequentialWriter {
  readonly #handle: FileHandle;
  #buffer = Buffer.allocUnsafe(bufferBytes);
  #spare = Buffer.allocUnsafe(bufferBytes);
  #filled = 0;
  #position = 0;
  #pending: Promise<unknown> | undefined;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Writes bytes at a block; `bytes` is copied at once and filled up with zeros to whole blocks. */
  async write(block: number, bytes: Uint8Array): Promise<void> {
    const position = block * blockSize;
    const padded = Math.ceil(bytes.length / blockSize) * blockSize;
    if (position !== this.#position + this.#filled || this.#filled + padded > bufferBytes) await this.flush();
    if (this.#filled === 0) this.#position = position;
    this.#buffer.set(bytes, this.#filled);
    this.#buffer.fill(0, this.#filled + bytes.length, this.#filled + padded);
    this.#filled += padded;
  }

  /** Hands the buffer to the host; returns when the write before it has ended. */
  async flush(): Promise<void> {
    await this.#settle();
    if (this.#filled === 0) return;
    const full = this.#buffer;
    this.#buffer = this.#spare;
    this.#spare = full;
    this.#pending = writeFully(this.#handle, full.subarray(0, this.#filled), this.#position);
    // The failure is reported by the next call; without a handler it would end the process before.
    this.#pending.catch(() => undefined);
    this.#filled = 0;
  }

  /** Flushes and waits until everything is written. */
  async end(): Promise<void> {
    await this.flush();
    await this.#settle();
  }

  async #settle(): Promise<void> {
    const pending = this.#pending;
    this.#pending = undefined;
    await pending;
  }
}

/** The disk image under construction: a sparse file with two write heads, one for content and one for inode tables. */
export class DiskFile {
  readonly content: SequentialWriter;
  readonly inodes: SequentialWriter;
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
    this.content = new SequentialWriter(handle);
    this.inodes = new SequentialWriter(handle);
  }

  /** Creates the file, sparse, of the given length. Fails with EEXIST when it exists. */
  static async create(path: string, sizeBytes: number): Promise<DiskFile> {
    const handle = await open(path, 'wx', 0o600);
    try {
      await handle.truncate(sizeBytes);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return new DiskFile(handle);
  }

  /** Writes bytes at a block, at once. */
  async write(block: number, bytes: Uint8Array): Promise<void> {
    await writeFully(this.#handle, bytes, block * blockSize);
  }

  /** Writes everything and makes it durable. */
  async finish(): Promise<void> {
    await this.content.end();
    await this.inodes.end();
    await this.#handle.sync();
  }

  async close(): Promise<void> {
    // A failed build leaves writes under way; closing waits for them, and their failure is no news any more.
    await Promise.allSettled([this.content.end(), this.inodes.end()]);
    await this.#handle.close();
  }
}
