import { createHash, webcrypto } from 'node:crypto';
import { readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { CryoboxError, errnoOf, wrapHostError } from '../errors.js';
import type { LayerPaths } from './layer-files.js';
import { CHUNK_BYTES, DIGEST_BYTES, type LayerMap } from './layer-map.js';
import type { LayerReader, OpenLayer } from './layer-reader.js';
import { readMap } from './map-file.js';

/**
 * Opens layers in local files; `resolve` says where each lies. `synchronous` reads on the calling thread: for a
 * process with nothing else to do, where a trip to the thread pool costs more than a small read.
 */
export function localLayers(
  resolve: (layerId: string) => LayerPaths,
  options: { synchronous?: boolean } = {},
): OpenLayer {
  return (layerId) => LocalLayer.open(resolve(layerId), layerId, options.synchronous ?? false);
}

/** One verified chunk of packed data. */
interface Chunk {
  readonly index: number;
  readonly data: Buffer;
}

/**
 * A layer in local files. Packed data is read and verified a chunk at a time; the last chunk is kept, and the one
 * behind it is fetched ahead, because packed pages are mostly read in their order. Flat data is read as it lies: QEMU
 * maps such files unverified as well, and verifyLayer() is there for them.
 */
class LocalLayer implements LayerReader {
  readonly #layerId: string;
  readonly #paths: LayerPaths;
  readonly #handle: FileHandle;
  readonly #synchronous: boolean;
  readonly #verified = new Set<number>();
  #map: LayerMap | undefined;
  #kept: Chunk | undefined;
  #ahead: { readonly index: number; readonly chunk: Promise<Chunk> } | undefined;
  #closed: Promise<void> | undefined;

  private constructor(paths: LayerPaths, layerId: string, handle: FileHandle, synchronous: boolean) {
    this.#paths = paths;
    this.#layerId = layerId;
    this.#handle = handle;
    this.#synchronous = synchronous;
  }

  static async open(paths: LayerPaths, layerId: string, synchronous: boolean): Promise<LocalLayer> {
    try {
      return new LocalLayer(paths, layerId, await open(paths.pages, 'r'), synchronous);
    } catch (error) {
      const missing = errnoOf(error) === 'ENOENT';
      throw wrapHostError(error, `opening memory layer ${layerId}`, missing ? 'integrity' : undefined);
    }
  }

  async read(target: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    this.#map ??= await readMap(this.#paths.map, this.#layerId);
    if (this.#map.form === 'flat') return this.#readPlain(target, offset);
    let done = 0;
    while (done < target.length) {
      if (signal?.aborted) throw new CryoboxError('cancelled', `reading memory layer ${this.#layerId}`);
      const position = offset + done;
      const index = Math.floor(position / CHUNK_BYTES);
      const length = Math.min(target.length - done, (index + 1) * CHUNK_BYTES - position);
      const piece = target.subarray(done, done + length);
      if (this.#synchronous && this.#verified.has(index) && this.#kept?.index !== index)
        this.readSync(piece, position);
      else await this.#readChunked(this.#map, index, piece, position);
      done += length;
    }
  }

  readSync(target: Buffer, offset: number): void {
    let done = 0;
    while (done < target.length) {
      const got = this.#readNow(target, done, offset + done);
      if (got === 0) throw this.#short(offset + done);
      done += got;
    }
  }

  async warm(offset: number, length: number): Promise<void> {
    this.#map ??= await readMap(this.#paths.map, this.#layerId);
    if (this.#map.form === 'flat') return;
    const last = Math.floor((offset + length - 1) / CHUNK_BYTES);
    for (let index = Math.floor(offset / CHUNK_BYTES); index <= last; index += 1)
      if (!this.#verified.has(index)) await this.#load(this.#map, index);
  }

  async close(): Promise<void> {
    await this.#ahead?.chunk.catch(() => undefined);
    this.#closed ??= this.#handle.close();
    await this.#closed;
  }

  async #readPlain(target: Buffer, offset: number): Promise<void> {
    if (this.#synchronous) this.readSync(target, offset);
    else await this.#fill(target, offset);
  }

  async #readChunked(map: LayerMap, index: number, piece: Buffer, position: number): Promise<void> {
    if (this.#kept?.index !== index) {
      const chunk = this.#ahead?.index === index ? this.#ahead.chunk : this.#load(map, index);
      this.#kept = await chunk;
      if (!this.#synchronous) this.#fetchAhead(map, index + 1);
    }
    const start = index * CHUNK_BYTES;
    const copied = this.#kept.data.copy(piece, 0, position - start);
    if (copied < piece.length) throw this.#short(position + copied);
  }

  #fetchAhead(map: LayerMap, index: number): void {
    if (index * CHUNK_BYTES >= map.dataBytes || this.#closed !== undefined) return;
    const chunk = this.#load(map, index);
    // Its failure belongs to who reads that chunk, if anybody does.
    chunk.catch(() => undefined);
    this.#ahead = { index, chunk };
  }

  /** Reads a chunk and compares it with its hash, the first time. */
  async #load(map: LayerMap, index: number): Promise<Chunk> {
    const start = index * CHUNK_BYTES;
    if (start >= map.dataBytes) throw this.#short(start);
    const data = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, map.dataBytes - start));
    await this.#readPlain(data, start);
    if (this.#verified.has(index)) return { index, data };
    const digest = this.#synchronous
      ? createHash('sha256').update(data).digest()
      : Buffer.from(await webcrypto.subtle.digest('SHA-256', data));
    checkDigest(map, index, digest);
    this.#verified.add(index);
    return { index, data };
  }

  async #fill(target: Buffer, offset: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await this.#readOnce(target, done, offset + done);
      if (bytesRead === 0) throw this.#short(offset + done);
      done += bytesRead;
    }
  }

  async #readOnce(target: Buffer, done: number, position: number): Promise<{ bytesRead: number }> {
    try {
      return await this.#handle.read(target, done, target.length - done, position);
    } catch (error) {
      throw wrapHostError(error, `reading memory layer ${this.#layerId} at ${position}`);
    }
  }

  #readNow(target: Buffer, done: number, position: number): number {
    try {
      return readSync(this.#handle.fd, target, done, target.length - done, position);
    } catch (error) {
      throw wrapHostError(error, `reading memory layer ${this.#layerId} at ${position}`);
    }
  }

  #short(position: number): CryoboxError {
    return new CryoboxError(
      'integrity',
      `memory layer ${this.#layerId}: its data ends at ${position}, more was expected`,
      { details: { layer: this.#layerId, chunk: Math.floor(position / CHUNK_BYTES) } },
    );
  }
}

/** The digest of a chunk that holds only zeros, which is not hashed. */
export const ZERO_DIGEST = Buffer.alloc(DIGEST_BYTES);

/** Compares a chunk's digest with the map's. @throws integrity naming layer and chunk, also in `details`. */
export function checkDigest(map: LayerMap, chunk: number, digest: Buffer): void {
  if (digest.equals(map.digests.subarray(chunk * DIGEST_BYTES, (chunk + 1) * DIGEST_BYTES))) return;
  const layer = map.layers[0];
  throw new CryoboxError('integrity', `memory layer ${layer}: chunk ${chunk} does not match its SHA-256`, {
    details: { layer, chunk },
  });
}
