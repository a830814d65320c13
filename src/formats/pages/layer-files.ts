import { type FileHandle, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '../../base/files.js';
import { wrapHostError } from '../../errors.js';
import type { LayerMap } from './layer-map.js';
import { encodeMap } from './map-file.js';

/** The two files of a local layer. They never change once the layer is written. */
export interface LayerPaths {
  /** See map-file.ts. */
  readonly map: string;
  /** The pages; QEMU maps this file when the layer is flat. */
  readonly pages: string;
}

/**
 * Creates a layer's files: `fill` writes the data file and gives the map. Durable when it returns; after a failure
 * nothing of it is left. Files that exist are an error and stay as they are.
 */
export async function createLayer(
  paths: LayerPaths,
  layerId: string,
  fill: (data: FileHandle) => Promise<LayerMap>,
): Promise<LayerMap> {
  const what = `writing memory layer ${layerId}`;
  const data = await open(paths.pages, 'wx+', 0o600).catch((error: unknown) => {
    throw wrapHostError(error, what);
  });
  try {
    return await addMap(data, paths, () => fill(data));
  } catch (error) {
    await rm(paths.pages, { force: true });
    throw wrapHostError(error, what);
  } finally {
    await data.close();
  }
}

/**
 * Writes the map beside a data file and makes both and their names durable. No temporary name: what a crash leaves is
 * not yet known to anybody, and a map that is cut short does not match its checksum. All is synced at once, so that
 * the file system can do it in one commit of its journal. After a failure there is no map.
 */
export async function addMap(
  data: FileHandle,
  paths: LayerPaths,
  fill: () => Promise<LayerMap>,
): Promise<LayerMap> {
  const file = await open(paths.map, 'wx', 0o600);
  try {
    const map = await fill();
    await file.writeFile(encodeMap(map));
    const directories = new Set([dirname(paths.map), dirname(paths.pages)]);
    await Promise.all([data.datasync(), file.sync(), ...[...directories].map(syncDirectory)]);
    return map;
  } catch (error) {
    await rm(paths.map, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}
