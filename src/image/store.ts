/**
 * Blobs by digest in a directory: `blobs/sha256/HEX` is complete, verified and durable; `partial/HEX` is a download to be
 * resumed and `partial/new-*` a blob whose digest is not known yet. A blob appears by a rename after an fsync, so nothing
 * incomplete ever has a complete one's name.
 */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { ifExists, syncDirectory } from '../base/files.js';
import { CryoboxError, isCryoboxError, wrapHostError } from '../errors.js';
import { digestFrom, digestOf, hexOf, isDigest } from './digest.js';

const readChunkBytes = 256 * 1024;

/** A complete blob. */
export interface StoredBlob {
  readonly digest: string;
  readonly sizeBytes: number;
}

/** A file of the store. */
interface StoredFile {
  /** Path within the store. */
  readonly name: string;
  /** Absent for a part. */
  readonly digest: string | undefined;
  readonly bytes: number;
  readonly writtenMs: number;
}

/** Opens a blob's bytes from an offset on. */
type BlobOpener = (offset: number) => Promise<AsyncIterable<Uint8Array>>;

/** Options of {@link BlobStore.put}. */
export interface PutBlobOptions {
  /** Expected length; what is longer is refused as soon as it shows. */
  readonly sizeBytes?: number;
  readonly open: BlobOpener;
  /** Keep what came when the source fails, so that the next call goes on there. @default false */
  readonly resumable?: boolean;
  /** Called with the bytes written so far, those of an earlier call included. */
  readonly onProgress?: (bytes: number) => void;
}

/** A content-addressed directory. One process owns it. */
export class BlobStore {
  readonly #directory: string;
  readonly #blobs: string;
  readonly #partials: string;

  /** Uses `directory`, which is made on the first write. */
  constructor(directory: string) {
    this.#directory = directory;
    this.#blobs = join(directory, 'blobs', 'sha256');
    this.#partials = join(directory, 'partial');
  }

  /** Where a blob lies or would lie. Throws `image_invalid` for what is no digest. */
  path(digest: string): string {
    return join(this.#blobs, hexOf(digest));
  }

  /** Length of a blob, or undefined when it is not there. */
  async size(digest: string): Promise<number | undefined> {
    return (await ifExists(stat(this.path(digest))))?.size;
  }

  /** A blob's bytes. The iteration fails with ENOENT when it is not there. */
  open(digest: string, signal?: AbortSignal): AsyncIterable<Buffer> {
    return createReadStream(this.path(digest), { highWaterMark: readChunkBytes, signal });
  }

  /** A small blob as a whole, verified. Throws `image_not_found`, `image_refused` over `limitBytes`, `image_invalid`. */
  async readDocument(digest: string, limitBytes: number): Promise<Buffer> {
    const size = await this.size(digest);
    if (size === undefined)
      throw new CryoboxError('image_not_found', `the blob ${digest} is not in the store`);
    if (size > limitBytes)
      throw new CryoboxError(
        'image_refused',
        `the document ${digest} has ${size} bytes; at most ${limitBytes} are read`,
      );
    const bytes = await readFile(this.path(digest));
    const actual = digestOf(bytes);
    if (actual !== digest)
      throw new CryoboxError('image_invalid', `the blob ${digest} in the store has the digest ${actual}`);
    return bytes;
  }

  /** Stores bytes of memory. */
  async putBytes(bytes: Uint8Array): Promise<StoredBlob> {
    const digest = digestOf(bytes);
    return await this.put(digest, { sizeBytes: bytes.length, open: () => Promise.resolve(onceAsync(bytes)) });
  }

  /**
   * Stores a blob under a known digest, verified while it streams; does nothing when it is there.
   * Throws `image_invalid` for a wrong digest or length, `disk_full`, or what the source throws.
   */
  async put(digest: string, options: PutBlobOptions): Promise<StoredBlob> {
    const present = await this.size(digest);
    if (present !== undefined) return { digest, sizeBytes: present };
    const partial = join(this.#partials, hexOf(digest));
    return await this.#write(partial, options, digest);
  }

  /** Stores a blob whose digest shows only at its end. */
  async putUnknown(options: Omit<PutBlobOptions, 'resumable'>): Promise<StoredBlob> {
    return await this.#write(join(this.#partials, `new-${randomUUID()}`), options);
  }

  /** Removes a blob and what was begun of it; does nothing when there is none. */
  async remove(digest: string): Promise<void> {
    await rm(this.path(digest), { force: true });
    await rm(join(this.#partials, hexOf(digest)), { force: true });
  }

  /** Digests of all complete blobs. */
  async list(): Promise<string[]> {
    const names = (await ifExists(readdir(this.#blobs))) ?? [];
    return names.map((name) => `sha256:${name}`).filter(isDigest);
  }

  /** All files of the store: complete blobs, which have a digest, and parts of others. */
  async files(): Promise<StoredFile[]> {
    const files: StoredFile[] = [];
    for (const folder of [this.#blobs, this.#partials]) {
      for (const name of (await ifExists(readdir(folder))) ?? []) {
        const facts = await ifExists(stat(join(folder, name)));
        if (!facts) continue;
        const digest = folder === this.#blobs ? `sha256:${name}` : undefined;
        files.push({
          name: relative(this.#directory, join(folder, name)),
          digest: digest !== undefined && isDigest(digest) ? digest : undefined,
          bytes: facts.size,
          writtenMs: facts.mtimeMs,
        });
      }
    }
    return files;
  }

  /** Removes one of {@link BlobStore.files}. No write may be under way. */
  async removeFile(name: string): Promise<void> {
    await rm(join(this.#directory, name), { force: true });
  }

  async #write(partial: string, options: PutBlobOptions, digest?: string): Promise<StoredBlob> {
    await mkdir(this.#partials, { recursive: true, mode: 0o700 });
    await mkdir(this.#blobs, { recursive: true, mode: 0o700 });
    let keep = false;
    try {
      const handle = await open(partial, options.resumable ? 'a+' : 'w+', 0o600);
      try {
        return await this.#fill(handle, partial, options, digest);
      } finally {
        await handle.close();
      }
    } catch (error) {
      // A broken connection is worth resuming; wrong content and a full disk are not.
      const wrapped = wrapHostError(error, 'cannot store a blob', 'storage_error');
      const isWrong = isCryoboxError(error, 'image_invalid') || wrapped.code === 'disk_full';
      keep = options.resumable === true && !isWrong && (await hasContent(partial));
      throw wrapped.code === 'disk_full' ? wrapped : error;
    } finally {
      if (!keep) await rm(partial, { force: true });
    }
  }

  async #fill(
    handle: FileHandle,
    partial: string,
    options: PutBlobOptions,
    digest?: string,
  ): Promise<StoredBlob> {
    const hash = createHash('sha256');
    let length = await hashExisting(partial, hash);
    const { sizeBytes, onProgress } = options;
    if (sizeBytes !== undefined && length > sizeBytes) throw wrongLength(digest, sizeBytes, length);
    if (sizeBytes === undefined || length < sizeBytes) {
      for await (const chunk of await options.open(length)) {
        length += chunk.length;
        if (sizeBytes !== undefined && length > sizeBytes) throw wrongLength(digest, sizeBytes, length);
        hash.update(chunk);
        for (let done = 0; done < chunk.length; ) {
          done += (await handle.write(chunk, done, chunk.length - done, null)).bytesWritten;
        }
        onProgress?.(length);
      }
    }
    if (sizeBytes !== undefined && length !== sizeBytes) throw wrongLength(digest, sizeBytes, length);
    const actual = digestFrom(hash);
    if (digest !== undefined && actual !== digest) {
      throw new CryoboxError('image_invalid', `the blob ${digest} has the digest ${actual}`);
    }
    await handle.sync();
    await rename(partial, this.path(actual));
    await syncDirectory(this.#blobs);
    return { digest: actual, sizeBytes: length };
  }
}

async function hasContent(path: string): Promise<boolean> {
  return ((await ifExists(stat(path)))?.size ?? 0) > 0;
}

async function hashExisting(path: string, hash: Hash): Promise<number> {
  let length = 0;
  for await (const chunk of createReadStream(path, {
    highWaterMark: readChunkBytes,
  }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    length += chunk.length;
  }
  return length;
}

function wrongLength(digest: string | undefined, expected: number, actual: number): CryoboxError {
  const relation = actual > expected ? 'more' : 'fewer';
  return new CryoboxError(
    'image_invalid',
    `the blob ${digest ?? ''} should have ${expected} bytes and has ${relation}: ${actual}`,
  );
}

async function* onceAsync(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}
