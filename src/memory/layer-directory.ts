import { mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory, syncFile } from '../base/files.js';
import { wrapHostError } from '../errors.js';
import type { LayerMap } from './layer-map.js';
import { mapPath, pagesPath } from './local-layer.js';
import { encodeMap } from './map-file.js';

/**
 * Creates a layer's directory, lets `fill` write the data file and give the map, and writes the map. Durable when it
 * returns; after a failure nothing is left.
 */
export async function createLayer(
  directory: string,
  layerId: string,
  fill: () => Promise<LayerMap>,
): Promise<LayerMap> {
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    throw wrapHostError(error, `creating the directory of memory layer ${layerId}`);
  }
  try {
    const map = await fill();
    await publishMap(directory, map);
    return map;
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw wrapHostError(error, `writing memory layer ${layerId}`);
  }
}

/**
 * Writes the map beside a data file that is written, and makes both and their names durable. No temporary name: what
 * a crash leaves is not yet known to anybody, and a map that is cut short does not match its checksum. All is synced
 * at once, so that the file system can do it in one commit of its journal.
 */
export async function publishMap(directory: string, map: LayerMap): Promise<void> {
  const path = mapPath(directory);
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.writeFile(encodeMap(map));
  } finally {
    await handle.close();
  }
  await Promise.all([
    syncFile(pagesPath(directory)),
    syncFile(path),
    syncDirectory(directory),
    syncDirectory(dirname(directory)),
  ]);
}
