import { Mutex } from '../../base/mutex.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { type LayerMap, materialiseFlat, planResume, wantsMerge } from '../../memory/index.js';
import { hold, holdOnly, type LayerRow, type MemoryRow } from '../../store/index.js';
import type { EngineContext, MemoryKeeper } from '../context.js';
import { openMemory } from './layers.js';
import { flatCandidates } from './source.js';

/**
 * How long the layers that a merge replaces stay: whoever looked the memory up just before it may still open them, and
 * does so within seconds.
 */
const graceMs = 60_000;

/** Makes flat layers, one at a time, of memories that are deep or far from what can be mapped. */
export class MemoryMerger implements MemoryKeeper {
  readonly #context: () => EngineContext;
  readonly #mutex = new Mutex();
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(context: () => EngineContext) {
    this.#context = context;
  }

  /** Merges a memory in the background, if it wants that. */
  consider(memoryId: string): void {
    const ctx = this.#context();
    this.merge(memoryId).catch((error: unknown) => {
      if (ctx.closing.signal.aborted) return;
      ctx.logger.warn('cannot merge memory layers', { memory: memoryId, reason: messageOf(error) });
    });
  }

  /** Merges a memory if it wants that and is still there. Returns whether it did. */
  async merge(memoryId: string): Promise<boolean> {
    const ctx = this.#context();
    return await this.#mutex.run(async () => {
      if (ctx.closing.signal.aborted) return false;
      const memory = await ctx.db
        .selectFrom('memories')
        .selectAll()
        .where('id', '=', memoryId)
        .executeTakeFirst();
      return memory ? await this.#merge(ctx, memory) : false;
    });
  }

  /** Waits for what is under way; the engine's end cuts it short. */
  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#mutex.run(async () => undefined);
  }

  async #merge(ctx: EngineContext, memory: MemoryRow): Promise<boolean> {
    const image = await openMemory(ctx, memory.layer_id);
    const facts = { parent_id: null, state: 'sealed', virtual_bytes: 0 };
    const map = ctx.layers.newRow({ ...facts, kind: 'memory-map' });
    const pages = ctx.layers.newRow({ ...facts, kind: 'memory-flat', parent_id: map.id });
    try {
      if (image.map.form === 'flat') return false;
      if (!wantsMerge(image.map, planResume(image.map, await flatCandidates(ctx, image.map)))) return false;
      const merged = await materialiseFlat({
        image,
        paths: { map: ctx.layers.path(map.id), pages: ctx.layers.path(pages.id) },
        layerId: pages.id,
        signal: ctx.closing.signal,
      });
      return await this.#publish(ctx, memory, merged, { map, pages });
    } catch (error) {
      for (const { id } of [map, pages]) await ctx.layers.remove(id);
      throw error;
    } finally {
      await image.close();
    }
  }

  async #publish(
    ctx: EngineContext,
    memory: MemoryRow,
    merged: LayerMap,
    rows: { readonly map: LayerRow; readonly pages: LayerRow },
  ): Promise<boolean> {
    const virtual_bytes = merged.blocks[0]?.sizeBytes ?? 0;
    const map = { ...rows.map, size_bytes: await ctx.layers.seal(rows.map.id) };
    const pages = { ...rows.pages, virtual_bytes, size_bytes: await ctx.layers.seal(rows.pages.id) };
    await ctx.commits.run(async (tx) => {
      await tx.insertInto('layers').values([map, pages]).execute();
      await hold(tx, `memory:${memory.id}`, [pages.id]);
      const { numUpdatedRows } = await tx
        .updateTable('memories')
        .set({ layer_id: pages.id })
        .where('id', '=', memory.id)
        .executeTakeFirst();
      if (numUpdatedRows === 0n) throw new CryoboxError('not_found', `memory ${memory.id} is gone`);
    });
    this.#letGoLater(ctx, memory.id);
    return true;
  }

  #letGoLater(ctx: EngineContext, memoryId: string): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      letGo(ctx, memoryId).catch((error: unknown) => {
        ctx.logger.warn('cannot let go of merged layers', { memory: memoryId, reason: messageOf(error) });
      });
    }, graceMs).unref();
    this.#timers.add(timer);
  }
}

/** Makes a memory hold what it needs now, and nothing of before a merge. */
async function letGo(ctx: EngineContext, memoryId: string): Promise<void> {
  if (ctx.closing.signal.aborted) return;
  await ctx.commits.run(async (tx) => {
    const memory = await tx.selectFrom('memories').selectAll().where('id', '=', memoryId).executeTakeFirst();
    if (!memory) return;
    const { layer_id, state_layer, guest_layer, disk_layer, working_set } = memory;
    const others = working_set === null ? [] : [working_set];
    await holdOnly(tx, `memory:${memoryId}`, [
      ...new Set([layer_id, state_layer, guest_layer, disk_layer, ...others]),
    ]);
  });
  ctx.gc.soon();
}
