import { CryoboxError } from '../../errors.js';
import { type LayerMap, type LayerPaths, localLayers, MemoryImage, readMap } from '../../memory/index.js';
import type { Database } from '../../store/index.js';
import type { EngineContext } from '../context.js';

/** Kinds of the layers that hold pages; the parent of each is its map. */
export const pageKinds = ['memory-flat', 'memory-packed'] as const;

/** The files of layers of pages, by id. Throws `integrity` for one that the database does not know. */
export async function memoryPaths(
  ctx: Pick<EngineContext, 'layers'>,
  db: Database,
  layerIds: readonly string[],
): Promise<Map<string, LayerPaths>> {
  const rows = await db
    .selectFrom('layers')
    .select(['id', 'parent_id'])
    .where('id', 'in', layerIds)
    .execute();
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
export async function memoryMap(ctx: EngineContext, layerId: string): Promise<LayerMap> {
  const paths = (await memoryPaths(ctx, ctx.db, [layerId])).get(layerId);
  return await readMap(paths?.map ?? '', layerId);
}

/** The memory that a layer of pages is the top of, open for reading. The caller closes it. Throws `integrity`. */
export async function openMemory(ctx: EngineContext, layerId: string): Promise<MemoryImage> {
  const map = await memoryMap(ctx, layerId);
  const paths = await memoryPaths(ctx, ctx.db, map.layers);
  return await MemoryImage.open(
    map,
    localLayers((id) => paths.get(id) ?? { map: '', pages: '' }),
  );
}
