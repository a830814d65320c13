import { Mutex } from '../../base/mutex.js';
import { messageOf } from '../../errors.js';
import { mergeLayers, planResume, wantsMerge } from '../../memory/index.js';
import { holdOnly, type MemoryRow } from '../../store/index.js';
import type { EngineContext, MemoryKeeper } from '../context.js';
import { memoryMap, openMemory } from './layers.js';
import { LayerDraft, rebaseDescendants, replaceLayers } from './merged-layers.js';
import { flatCandidates } from './source.js';

/**
 * How long the layers that a merge replaces stay: for whoever looked the memory up just before it. A resume opens them
 * within seconds; a capture refers to them when it ends, which may be minutes later for the largest machines.
 */
const graceMs = 5 * 60_000;

/** Makes one layer, one memory at a time, of memories that are deep or far from what can be mapped. */
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
    try {
      const plan = planResume(image.map, await flatCandidates(ctx, image.map));
      if (image.map.form === 'flat' || !wantsMerge(image.map, plan)) return false;
      await using draft = new LayerDraft(ctx);
      const merged = await draft.write((layerId, paths) =>
        mergeLayers({
          image,
          base: plan.base,
          differenceBytes: plan.streamBytes,
          paths,
          layerId,
          signal: ctx.closing.signal,
        }),
      );
      const descendants = await rebaseDescendants(ctx, draft, image.map, merged);
      const replaced = await replaceLayers(ctx, [{ memory, layer: merged }, ...descendants]);
      // Those that came too late are rows without a holder: garbage.
      draft.keep();
      for (const id of replaced) this.#letGoLater(ctx, id);
      if (replaced.length < descendants.length + 1) ctx.gc.soon();
      return replaced.length > 0;
    } finally {
      await image.close();
    }
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
  const before = await ctx.db
    .selectFrom('memories')
    .selectAll()
    .where('id', '=', memoryId)
    .executeTakeFirst();
  if (!before) return;
  const { layers } = await memoryMap(ctx, before.layer_id);
  await ctx.commits.run(async (tx) => {
    const memory = await tx.selectFrom('memories').selectAll().where('id', '=', memoryId).executeTakeFirst();
    // Replaced once more meanwhile: that merge lets go of what was before it.
    if (memory?.layer_id === before.layer_id) {
      await holdOnly(tx, `memory:${memoryId}`, neededBy(memory, layers));
    }
  });
  ctx.gc.soon();
}

/** The layers that a memory needs, given those its map names. */
function neededBy(memory: MemoryRow, layers: readonly string[]): string[] {
  const { state_layer, guest_layer, disk_layer, working_set } = memory;
  const others = working_set === null ? [] : [working_set];
  return [...new Set([...layers, state_layer, guest_layer, disk_layer, ...others])];
}

/** Lets go of what merges replaced whose time of grace an earlier engine did not live to see. */
export async function letGoOfMerged(ctx: EngineContext): Promise<void> {
  const counts = await ctx.db
    .selectFrom('layer_holds')
    .select(['holder', (q) => q.fn.countAll<number>().as('layers')])
    .where('holder', 'like', 'memory:%')
    .groupBy('holder')
    .execute();
  const held = new Map(counts.map(({ holder, layers }) => [holder, Number(layers)]));
  for (const memory of await ctx.db.selectFrom('memories').selectAll().execute()) {
    try {
      const { layers } = await memoryMap(ctx, memory.layer_id);
      const needed = neededBy(memory, layers).length;
      if ((held.get(`memory:${memory.id}`) ?? 0) > needed) await letGo(ctx, memory.id);
    } catch (error) {
      // One damaged memory must not keep the others from being looked at; `verify` tells more.
      ctx.logger.warn('cannot let go of merged layers', { memory: memory.id, reason: messageOf(error) });
    }
  }
}
