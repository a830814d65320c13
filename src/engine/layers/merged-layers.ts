import {
  type LayerMap,
  type LayerPaths,
  planResume,
  rebaseMap,
  wantsMerge,
  writeMapOnly,
} from '../../formats/pages/index.js';
import {
  insertLayers,
  type LayerRow,
  type MemoryRow,
  memoriesHolding,
  replacePages,
} from '../../store/index.js';
import type { LayersContext } from './context.js';
import { flatCandidates, memoryMap } from './memory-layers.js';

/** A layer of pages whose files are written and whose rows are not stored yet. */
export interface WrittenLayer {
  readonly map: LayerMap;
  /** The map's row, then the pages'. */
  readonly rows: readonly LayerRow[];
}

/** A memory, and the layer that is to take the place of its present one. */
export interface Replacement {
  readonly memory: MemoryRow;
  readonly layer: WrittenLayer;
}

/** Writes layers that nobody knows yet; what was written is removed again unless it is kept. */
export class LayerDraft implements AsyncDisposable {
  readonly #ctx: LayersContext;
  readonly #ids: string[] = [];
  #kept = false;

  constructor(ctx: LayersContext) {
    this.#ctx = ctx;
  }

  async write(fill: (layerId: string, paths: LayerPaths) => Promise<LayerMap>): Promise<WrittenLayer> {
    const { layers } = this.#ctx;
    const facts = { parent_id: null, state: 'sealed', virtual_bytes: 0 };
    const map = layers.newRow({ ...facts, kind: 'memory-map' });
    const pages = layers.newRow({ ...facts, kind: 'memory-packed', parent_id: map.id });
    this.#ids.push(map.id, pages.id);
    const written = await fill(pages.id, { map: layers.path(map.id), pages: layers.path(pages.id) });
    return {
      map: written,
      rows: [
        { ...map, size_bytes: await layers.seal(map.id) },
        {
          ...pages,
          kind: `memory-${written.form}`,
          virtual_bytes: written.blocks[0]?.sizeBytes ?? 0,
          size_bytes: await layers.seal(pages.id),
        },
      ],
    };
  }

  /** The rows are stored: the files stay. */
  keep(): void {
    this.#kept = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#kept) return;
    for (const id of this.#ids) await this.#ctx.layers.remove(id);
  }
}

/**
 * Puts the memories that came after a merged one, and want a merge as well, onto its new layer. A box that is paused again
 * and again is ahead of its merge by a few generations when that is done; it would never catch up otherwise.
 */
export async function rebaseDescendants(
  ctx: LayersContext,
  draft: LayerDraft,
  from: LayerMap,
  { map: onto }: WrittenLayer,
): Promise<Replacement[]> {
  const replacements: Replacement[] = [];
  for (const memory of await sharing(ctx, from, onto)) {
    const map = await memoryMap(ctx, memory.layer_id);
    if (!wantsMerge(map, planResume(map, await flatCandidates(ctx, map)))) continue;
    const layer = await draft.write(async (layerId, paths) => {
      const rebased = rebaseMap(map, from, onto, layerId);
      await writeMapOnly(rebased, paths);
      return rebased;
    });
    replacements.push({ memory, layer });
  }
  return replacements;
}

/** Other memories that need one of the layers a merge replaces. */
async function sharing(ctx: LayersContext, from: LayerMap, onto: LayerMap): Promise<MemoryRow[]> {
  const replaced = from.layers.filter((id) => !onto.layers.includes(id));
  if (replaced.length === 0) return [];
  return await memoriesHolding(ctx.db, replaced, from.layers[0] ?? '');
}

/** Stores layers and makes memories use them, in one commit. Returns the memories for which that came in time. */
export async function replaceLayers(
  ctx: LayersContext,
  replacements: readonly Replacement[],
): Promise<string[]> {
  return await ctx.commits.run(async (tx) => {
    const replaced: string[] = [];
    for (const { memory, layer } of replacements) {
      await insertLayers(tx, layer.rows);
      if (await replacePages(tx, memory, layer.map.layers)) replaced.push(memory.id);
    }
    return replaced;
  });
}
