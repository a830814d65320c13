import { CryoboxError } from '../../errors.js';
import {
  type LayerMap,
  type LayerPaths,
  localLayers,
  MemoryImage,
  readMap,
} from '../../formats/pages/index.js';
import { type Database, layersOfKind, parentsOf } from '../../store/index.js';
import type { LayersContext } from './context.js';

/** Kinds of the layers that hold pages; the parent of each is its map. */
export const pageKinds = ['memory-flat', 'memory-packed'] as const;

/** The files of layers of pages, by id. Throws `integrity` for one that the database does not know. */
export async function memoryPaths(
  ctx: Pick<LayersContext, 'layers'>,
  db: Database,
  layerIds: readonly string[],
): Promise<Map<string, LayerPaths>> {
  const rows = await parentsOf(db, layerIds);
  const paths = new Map<string, LayerPaths>();
  for (const { id, parent_id } of rows) {
    if (parent_id !== null) paths.set(id, { map: ctx.layers.path(parent_id), pages: ctx.layers.path(id) });
  }
  const missing = layerIds.find((id) => !paths.has(id));
  if (missing === undefined) return paths;
  throw new CryoboxError('integrity', `memory layer ${missing} is not in the database`, {
    details: { layer: missing },
  });
}

/** What a layer of pages says. Throws `integrity`. */
export async function memoryMap(ctx: LayersContext, layerId: string): Promise<LayerMap> {
  const paths = (await memoryPaths(ctx, ctx.db, [layerId])).get(layerId);
  return await readMap(paths?.map ?? '', layerId);
}

/** The memory that a layer of pages is the top of, open for reading. The caller closes it. Throws `integrity`. */
export async function openMemory(ctx: LayersContext, layerId: string): Promise<MemoryImage> {
  const map = await memoryMap(ctx, layerId);
  const paths = await memoryPaths(ctx, ctx.db, map.layers);
  return await MemoryImage.open(
    map,
    localLayers((id) => paths.get(id) ?? { map: '', pages: '' }),
  );
}

/** The flat layers among those that a map refers to: what is not different is there already. */
export async function flatCandidates(ctx: LayersContext, map: LayerMap): Promise<LayerMap[]> {
  if (map.form === 'flat') return [map];
  const flat = await layersOfKind(ctx.db, map.layers, pageKinds[0]);
  return await Promise.all(flat.map((id) => memoryMap(ctx, id)));
}
