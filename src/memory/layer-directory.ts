import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '../base/files.js';
import { wrapHostError } from '../errors.js';
import type { LayerMap } from './layer-map.js';
import { mapPath } from './local-layer.js';
import { writeMap } from './map-file.js';

/**
 * Creates a layer's directory, lets `fill` write the data file and give the map, and writes the map last: a directory
 * without a map is no layer. Durable when it returns; after a failure nothing is left.
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
    await writeMap(mapPath(directory), map);
    await syncDirectory(dirname(directory));
    return map;
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw wrapHostError(error, `writing memory layer ${layerId}`);
  }
}
