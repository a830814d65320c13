import { Mutex } from '../../base/mutex.js';
import { messageOf } from '../../errors.js';
import { mergeLayers, planResume, wantsMerge } from '../../formats/pages/index.js';
import { findMemory, type MemoryRow, noteFinished, releaseReplaced, unfinished } from '../../store/index.js';
import type { LayersContext, MemoryKeeper } from './context.js';
import { flatCandidates, memoryMap, openMemory } from './memory-layers.js';
import { LayerDraft, rebaseDescendants, replaceLayers } from './merged-layers.js';

/**
 * How long the layers that a merge replaces stay: for whoever looked the memory up just before it. A resume opens them
 * within seconds; a capture refers to them when it ends, which may be minutes later for the largest machines.
 */
const graceMs = 5 * 60_000;

/** Makes one layer, one memory at a time, of memories that are deep or far from what can be mapped. */
export class MemoryMerger implements MemoryKeeper {
  readonly #context: () => LayersContext;
  readonly #mutex = new Mutex();
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(context: () => LayersContext) {
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
      const memory = await findMemory(ctx.db, memoryId);
      return memory ? await this.#merge(ctx, memory) : false;
    });
  }

  /** Waits for what is under way; the engine's end cuts it short. */
  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#mutex.run(async () => undefined);
  }

  async #merge(ctx: LayersContext, memory: MemoryRow): Promise<boolean> {
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

  #letGoLater(ctx: LayersContext, memoryId: string): void {
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
async function letGo(ctx: LayersContext, memoryId: string): Promise<void> {
  if (ctx.closing.signal.aborted) return;
  const before = await findMemory(ctx.db, memoryId);
  if (!before) return;
  const { layers } = await memoryMap(ctx, before.layer_id);
  await ctx.commits.run((tx) => releaseReplaced(tx, before, layers));
  ctx.gc.soon();
}

/** Lets go of what merges replaced whose time of grace an earlier engine did not live to see. */
export async function letGoOfMerged(ctx: LayersContext): Promise<void> {
  await Promise.all((await unfinished(ctx.db, 'memory')).map((id) => letGoOfOne(ctx, id)));
}

async function letGoOfOne(ctx: LayersContext, memoryId: string): Promise<void> {
  try {
    if (await findMemory(ctx.db, memoryId)) await letGo(ctx, memoryId);
    else await noteFinished(ctx.db, 'memory', [memoryId]);
  } catch (error) {
    // One damaged memory must not keep the others from being looked at; `verify` tells more.
    ctx.logger.warn('cannot let go of merged layers', { memory: memoryId, reason: messageOf(error) });
  }
}
