import { createHash } from 'node:crypto';
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

/** A layer in local files. Packed data is verified by its hash on first use, one chunk at a time. */
class LocalLayer implements LayerReader {
  readonly #layerId: string;
  readonly #paths: LayerPaths;
  readonly #handle: FileHandle;
  readonly #synchronous: boolean;
  #map: Promise<LayerMap> | undefined;
  #verified = new Set<number>();
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
    const map = await this.#ownMap();
    if (map.form === 'packed') {
      const last = Math.floor((offset + target.length - 1) / CHUNK_BYTES);
      for (let chunk = Math.floor(offset / CHUNK_BYTES); chunk <= last; chunk += 1) {
        if (signal?.aborted) throw new CryoboxError('cancelled', `reading memory layer ${this.#layerId}`);
        if (!this.#verified.has(chunk)) await this.#verifyChunk(map, chunk);
      }
    }
    if (this.#synchronous) this.readSync(target, offset);
    else await this.#fill(target, offset);
  }

  readSync(target: Buffer, offset: number): void {
    let done = 0;
    while (done < target.length) {
      const got = this.#readNow(target, done, offset + done);
      if (got === 0) throw this.#short(offset + done);
      done += got;
    }
  }

  async close(): Promise<void> {
    this.#closed ??= this.#handle.close();
    await this.#closed;
  }

  #ownMap(): Promise<LayerMap> {
    this.#map ??= readMap(this.#paths.map, this.#layerId);
    return this.#map;
  }

  async #verifyChunk(map: LayerMap, chunk: number): Promise<void> {
    const start = chunk * CHUNK_BYTES;
    const data = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, map.dataBytes - start));
    await this.#fill(data, start);
    checkChunk(map, chunk, data);
    this.#verified.add(chunk);
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

const zeroDigest = Buffer.alloc(DIGEST_BYTES);

/**
 * Compares a chunk with its digest; a digest of zeros stands for a chunk of zeros.
 * @throws integrity naming layer and chunk.
 */
export function checkChunk(map: LayerMap, chunk: number, data: Buffer): void {
  const expected = Buffer.from(map.digests.subarray(chunk * DIGEST_BYTES, (chunk + 1) * DIGEST_BYTES));
  const isZero = expected.equals(zeroDigest);
  const right = isZero
    ? data.equals(Buffer.alloc(data.length))
    : createHash('sha256').update(data).digest().equals(expected);
  if (right) return;
  const layer = map.layers[0];
  throw new CryoboxError('integrity', `memory layer ${layer}: chunk ${chunk} does not match its SHA-256`, {
    details: { layer, chunk },
  });
}
