import { createHash, webcrypto } from 'node:crypto';
import { readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { CryoboxError, errnoOf, wrapHostError } from '../../errors.js';
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

/**
 * A layer in local files. Packed data is verified a chunk at a time on first use, the next chunk ahead; what is verified
 * lies in the page cache, so that it is then read at once, however small the pieces are. Flat data is read as it
 * lies: QEMU maps such files unverified as well, and verifyLayer() is there for them.
 */
class LocalLayer implements LayerReader {
  readonly #layerId: string;
  readonly #paths: LayerPaths;
  readonly #handle: FileHandle;
  readonly #synchronous: boolean;
  readonly #verified = new Set<number>();
  readonly #verifying = new Map<number, Promise<void>>();
  readonly #buffers: Buffer[] = [];
  #map: LayerMap | undefined;
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
    if (signal?.aborted) throw new CryoboxError('cancelled', `reading memory layer ${this.#layerId}`);
    this.#map ??= await readMap(this.#paths.map, this.#layerId);
    if (this.#map.form === 'flat') return this.#readPlain(target, offset);
    if (!this.#isVerified(offset, target.length)) await this.warm(offset, target.length);
    this.readSync(target, offset);
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
    if (offset + length > this.#map.dataBytes) throw this.#short(this.#map.dataBytes);
    for (let index = chunkOf(offset); index <= chunkOf(offset + length - 1); index += 1) {
      if (this.#verified.has(index)) continue;
      const verified = this.#verify(this.#map, index);
      const hasNext = (index + 1) * CHUNK_BYTES < this.#map.dataBytes;
      // The failure of what is done ahead belongs to who reads that chunk, if anybody does.
      if (hasNext && !this.#synchronous) this.#verify(this.#map, index + 1).catch(() => undefined);
      await verified;
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#verifying.values());
    this.#closed ??= this.#handle.close();
    await this.#closed;
  }

  #isVerified(offset: number, length: number): boolean {
    for (let index = chunkOf(offset); index <= chunkOf(offset + length - 1); index += 1)
      if (!this.#verified.has(index)) return false;
    return true;
  }

  /** Verifies a chunk once, however many ask for it. */
  #verify(map: LayerMap, index: number): Promise<void> {
    if (this.#verified.has(index)) return Promise.resolve();
    const underWay = this.#verifying.get(index);
    if (underWay !== undefined) return underWay;
    const task = this.#verifyNow(map, index).finally(() => this.#verifying.delete(index));
    this.#verifying.set(index, task);
    return task;
  }

  async #verifyNow(map: LayerMap, index: number): Promise<void> {
    const start = index * CHUNK_BYTES;
    const buffer = this.#buffers.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const data = buffer.subarray(0, Math.min(CHUNK_BYTES, map.dataBytes - start));
    await this.#readPlain(data, start);
    const digest = this.#synchronous
      ? createHash('sha256').update(data).digest()
      : Buffer.from(await webcrypto.subtle.digest('SHA-256', data));
    this.#buffers.push(buffer);
    checkDigest(map, index, digest);
    this.#verified.add(index);
  }

  async #readPlain(target: Buffer, offset: number): Promise<void> {
    if (this.#synchronous) this.readSync(target, offset);
    else await this.#fill(target, offset);
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

function chunkOf(offset: number): number {
  return Math.floor(offset / CHUNK_BYTES);
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
