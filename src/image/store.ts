/**
 * Blobs by digest in a directory: `blobs/sha256/HEX` is complete, verified and durable, `partial/` holds what is not
 * (parts.ts). A blob appears by a rename after an fsync, so nothing incomplete ever has a complete one's name.
 */
import { createHash, type Hash } from 'node:crypto';
import { type BigIntStats, createReadStream } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { LRUCache } from 'lru-cache';
import { ifExists, syncDirectory, writeFully } from '../base/files.js';
import { KeyedMutex } from '../base/mutex.js';
import { isOwnFolder, ownEntries } from '../base/own-entries.js';
import { CryoboxError, isCryoboxError, wrapHostError } from '../errors.js';
import { digestFrom, digestOf, hexOf, isDigest } from '../formats/oci/digest.js';
import { dropParts, isPartName, leavePart, ownPart, takePart, unknownPart } from './parts.js';

const readChunkBytes = 256 * 1024;
/** Blobs whose last look is remembered: a few hundred bytes each. One that is forgotten is hashed once more. */
const maxRemembered = 10_000;

/** One writer of a blob at a time, by its path, over all stores of this process. */
const writing = new KeyedMutex();

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
  /** Ends the wait for another writer of the same blob, and the look at one that is there. */
  readonly signal?: AbortSignal;
}

const blobName = /^[0-9a-f]{64}$/;

/**
 * A content-addressed directory. A blob is written by one caller at a time; others wait and then find it. What is found
 * is believed when this process has written or hashed it and it has not been touched since.
 */
export class BlobStore {
  readonly #directory: string;
  readonly #blobs: string;
  readonly #partials: string;
  /** Marks of the files whose content was seen to have their digest. */
  readonly #verified = new LRUCache<string, string>({ max: maxRemembered });

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

  /**
   * Length of a blob whose content has its digest, or undefined when there is none: one that was damaged is as none, and
   * the next {@link BlobStore.put} replaces it. Reads the whole blob when it was not seen yet or has been touched.
   */
  async verifiedSize(digest: string, signal?: AbortSignal): Promise<number | undefined> {
    const path = this.path(digest);
    const facts = await ifExists(stat(path, { bigint: true }));
    if (!facts) return undefined;
    const mark = markOf(facts);
    if (this.#verified.get(digest) !== mark) {
      const hash = createHash('sha256');
      const bytes = await ifExists(hashFile(path, hash, signal));
      if (bytes === undefined || digestFrom(hash) !== digest) return undefined;
      this.#verified.set(digest, mark);
    }
    return Number(facts.size);
  }

  /** A blob's bytes. The iteration fails with ENOENT when it is not there. */
  open(digest: string, signal?: AbortSignal): AsyncIterable<Buffer> {
    return createReadStream(this.path(digest), { highWaterMark: readChunkBytes, signal });
  }

  /** A small blob as a whole, verified. Throws `image_not_found`, `image_refused` over `limitBytes`, `image_invalid`. */
  async readDocument(digest: string, limitBytes: number): Promise<Buffer> {
    const size = (await ifExists(stat(this.path(digest))))?.size;
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
   * Stores a blob under a known digest, verified while it streams; does nothing when it is there and undamaged. Waits
   * for another writer of the same blob. Throws `image_invalid` for a wrong digest or length, `disk_full`, `cancelled`,
   * or what the source throws.
   */
  async put(digest: string, options: PutBlobOptions): Promise<StoredBlob> {
    const { signal } = options;
    const write = async (): Promise<StoredBlob> => {
      const present = await this.verifiedSize(digest, signal);
      if (present !== undefined) return { digest, sizeBytes: present };
      return await this.#write(ownPart(hexOf(digest)), options, digest);
    };
    return await writing.run(this.path(digest), write, signal);
  }

  /** Stores a blob whose digest shows only at its end. */
  async putUnknown(options: Omit<PutBlobOptions, 'resumable'>): Promise<StoredBlob> {
    return await this.#write(unknownPart(), options);
  }

  /** Removes a blob and what was begun of it; does nothing when there is none. */
  async remove(digest: string): Promise<void> {
    this.#verified.delete(digest);
    await rm(this.path(digest), { force: true });
    await dropParts(this.#partials, hexOf(digest));
  }

  /** Digests of all complete blobs. */
  async list(): Promise<string[]> {
    const names = (await ifExists(readdir(this.#blobs))) ?? [];
    return names.map((name) => `sha256:${name}`).filter(isDigest);
  }

  /**
   * All files of the store: complete blobs, which have a digest, and parts of others. Files that this class did not make
   * are none of them, nor is what lies behind a symbolic link.
   */
  async files(): Promise<StoredFile[]> {
    const files: StoredFile[] = [];
    for (const folder of [this.#directory, dirname(this.#blobs)]) if (!(await isOwnFolder(folder))) return [];
    for (const folder of [this.#blobs, this.#partials]) {
      const isOurs = folder === this.#blobs ? (name: string) => blobName.test(name) : isPartName;
      for (const name of await ownEntries(folder, isOurs)) {
        const facts = await ifExists(lstat(join(folder, name)));
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

  /** Writes a blob under the name of a part and gives it its own in the end. */
  async #write(name: string, options: PutBlobOptions, digest?: string): Promise<StoredBlob> {
    await mkdir(this.#partials, { recursive: true, mode: 0o700 });
    await mkdir(this.#blobs, { recursive: true, mode: 0o700 });
    const partial = join(this.#partials, name);
    const resumed = options.resumable === true && digest !== undefined ? hexOf(digest) : undefined;
    if (resumed !== undefined) await takePart(this.#partials, resumed);
    try {
      const handle = await open(partial, resumed === undefined ? 'w+' : 'a+', 0o600);
      try {
        return await this.#fill(handle, partial, options, digest);
      } finally {
        await handle.close();
      }
    } catch (error) {
      // A broken connection is worth resuming; wrong content and a full disk are not.
      const wrapped = wrapHostError(error, 'cannot store a blob', 'storage_error');
      const isWrong = isCryoboxError(error, 'image_invalid') || wrapped.code === 'disk_full';
      if (resumed !== undefined && !isWrong && (await hasContent(partial)))
        await leavePart(this.#partials, resumed);
      throw wrapped.code === 'disk_full' ? wrapped : error;
    } finally {
      await rm(partial, { force: true });
    }
  }

  async #fill(
    handle: FileHandle,
    partial: string,
    options: PutBlobOptions,
    digest?: string,
  ): Promise<StoredBlob> {
    const hash = createHash('sha256');
    let length = await hashFile(partial, hash);
    const { sizeBytes, onProgress } = options;
    if (sizeBytes !== undefined && length > sizeBytes) throw wrongLength(digest, sizeBytes, length);
    if (sizeBytes === undefined || length < sizeBytes) {
      for await (const chunk of await options.open(length)) {
        length += chunk.length;
        if (sizeBytes !== undefined && length > sizeBytes) throw wrongLength(digest, sizeBytes, length);
        hash.update(chunk);
        await writeFully(handle, chunk, null);
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
    this.#verified.set(actual, markOf(await handle.stat({ bigint: true })));
    await dropParts(this.#partials, hexOf(actual));
    return { digest: actual, sizeBytes: length };
  }
}

async function hasContent(path: string): Promise<boolean> {
  return ((await ifExists(stat(path)))?.size ?? 0) > 0;
}

/** What changes whenever a file is written, replaced or renamed: nothing but the kernel sets the time of change. */
function markOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}

/** Hashes a file and returns its length. */
async function hashFile(path: string, hash: Hash, signal?: AbortSignal): Promise<number> {
  let length = 0;
  const stream = createReadStream(path, { highWaterMark: readChunkBytes, signal });
  for await (const chunk of stream as AsyncIterable<Buffer>) {
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
