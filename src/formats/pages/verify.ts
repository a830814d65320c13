import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { readFully } from '../../base/files.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import type { LayerPaths } from './layer-files.js';
import { CHUNK_BYTES, type LayerMap } from './layer-map.js';
import { checkDigest, ZERO_DIGEST } from './local-layer.js';
import { readMap } from './map-file.js';

/**
 * Reads a local layer whole: its map with its checksum, the length of its data file, every chunk's SHA-256.
 * @returns the bytes of data read.
 * @throws integrity naming layer and chunk (also in `details`); cancelled; storage_error.
 */
export async function verifyLayer(paths: LayerPaths, layerId: string, signal?: AbortSignal): Promise<number> {
  const map = await readMap(paths.map, layerId);
  let handle: FileHandle;
  try {
    handle = await open(paths.pages, 'r');
  } catch (error) {
    throw wrapHostError(error, `opening memory layer ${layerId}`, 'integrity');
  }
  try {
    await verifyData(handle, map, layerId, signal);
  } finally {
    await handle.close();
  }
  return map.dataBytes;
}

async function verifyData(
  handle: FileHandle,
  map: LayerMap,
  layerId: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { size } = await handle.stat();
  if (size !== map.dataBytes)
    throw new CryoboxError(
      'integrity',
      `memory layer ${layerId}: expected ${map.dataBytes} bytes of data, got ${size}`,
      { details: { layer: layerId, chunk: Math.floor(Math.min(size, map.dataBytes) / CHUNK_BYTES) } },
    );
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let start = 0; start < map.dataBytes; start += CHUNK_BYTES) {
    if (signal?.aborted) throw new CryoboxError('cancelled', `verifying memory layer ${layerId}`);
    const length = Math.min(CHUNK_BYTES, map.dataBytes - start);
    const got = await readFully(handle, buffer.subarray(0, length), start).catch((error: unknown) => {
      throw wrapHostError(error, `reading memory layer ${layerId} at ${start}`);
    });
    if (got < length) {
      throw new CryoboxError('integrity', `memory layer ${layerId}: it ends at ${start + got}`, {
        details: { layer: layerId, chunk: start / CHUNK_BYTES },
      });
    }
    checkDigest(map, start / CHUNK_BYTES, digestOf(buffer.subarray(0, length)));
  }
}

const zeroChunk = Buffer.alloc(CHUNK_BYTES);

/** A chunk's digest as the map has it: zeros for zeros, which makes holes cheap. */
function digestOf(data: Buffer): Buffer {
  if (zeroChunk.compare(data, 0, data.length, 0, data.length) === 0) return ZERO_DIGEST;
  return createHash('sha256').update(data).digest();
}
