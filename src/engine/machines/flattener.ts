import type { CallOptions } from '../../api/index.js';
import { newId } from '../../base/ids.js';
import { inBackground } from '../../base/in-background.js';
import { Mutex } from '../../base/mutex.js';
import { messageOf } from '../../errors.js';
import type { DiskSlot } from '../../machine/index.js';
import {
  type BoxRow,
  chainOf,
  findBox,
  findLayer,
  hold,
  insertLayers,
  type LayerRow,
  noteFinished,
  setParent,
} from '../../store/index.js';
import { copyDisk } from '../layers/copy.js';
import { headColumn, slots } from '../layers/disk-layers.js';
import type { ChainKeeper, MachinesContext } from './context.js';
import { underLock } from './locked.js';
import { useParent } from './parent.js';

/** Most files a disk of a box has, the head and the base included (docs/SPECIFICATION.md). */
export const maxChainDepth = 16;
/** From here on the background makes a chain shorter, so that nobody ever has to wait for it. */
const flattenFromDepth = 12;
/** Several changes in a row are looked at together. */
const delayMs = 1_000;

/**
 * Keeps chains short: what is under a head is written as one new layer, and the head put on that. Layers that others
 * use are only read; a running machine goes on meanwhile.
 */
export class Flattener implements ChainKeeper {
  readonly #context: () => MachinesContext;
  readonly #mutex = new Mutex();
  readonly #boxes = new Set<string>();
  /** Layers that have been copied, and their copies: boxes that share a chain share the shorter one, too. */
  readonly #copies = new Map<string, string>();
  #timer: NodeJS.Timeout | undefined;

  /** `context` is asked for when there is work: it holds this flattener, too. */
  constructor(context: () => MachinesContext) {
    this.#context = context;
  }

  /** Looks at a box's chains in a while, in the background. */
  consider(boxId: string): void {
    if (this.#context().closing.signal.aborted) return;
    this.#boxes.add(boxId);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      inBackground(this.run(), 'shorten the disks of boxes', this.#context().logger);
    }, delayMs).unref();
  }

  /** Shortens the chains of all boxes that were named, one after the other. */
  async run(): Promise<void> {
    const ctx = this.#context();
    const { signal } = ctx.closing;
    const boxes = [...this.#boxes];
    this.#boxes.clear();
    await this.#mutex.run(async () => {
      for (const boxId of boxes) {
        if (signal.aborted) return;
        await this.#shorten(ctx, boxId, { signal }).catch((error: unknown) => {
          if (signal.aborted) return;
          ctx.logger.warn('cannot shorten the disks of a box', { box: boxId, reason: messageOf(error) });
        });
      }
    });
  }

  /** Makes room for one more layer, at once if there is none. Called under the box's lock. Throws `disk_full`. */
  async makeRoom(row: BoxRow): Promise<void> {
    const ctx = this.#context();
    for (const slot of slots) {
      const chain = await chainOf(ctx.db, row[headColumn[slot]]);
      if (chain.length >= flattenFromDepth) this.consider(row.id);
      const parent = chain.at(-2);
      if (chain.length < maxChainDepth || !parent) continue;
      await this.#withCopy(ctx, parent, {}, (copy) => this.#swap(ctx, row, slot, parent, copy));
    }
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#mutex.run(async () => undefined);
  }

  async #shorten(ctx: MachinesContext, boxId: string, options: CallOptions): Promise<void> {
    const row = await findBox(ctx.db, boxId);
    for (const slot of row ? slots : []) {
      const chain = await chainOf(ctx.db, row?.[headColumn[slot]] ?? '');
      const parent = chain.at(-2);
      if (chain.length < flattenFromDepth || !parent) continue;
      await this.#withCopy(ctx, parent, options, (copy) =>
        underLock(ctx, boxId, async () => {
          const current = await findBox(ctx.db, boxId);
          if (current) await this.#swap(ctx, current, slot, parent, copy);
        }),
      );
    }
  }

  /** Gives a copy of a disk that needs no other layer to a task; both are held until it has ended. */
  async #withCopy(
    ctx: MachinesContext,
    layer: LayerRow,
    options: CallOptions,
    task: (copy: LayerRow) => Promise<void>,
  ): Promise<void> {
    const holder = `flatten:${newId('opn')}` as const;
    const known = await ctx.commits.run(async (tx) => {
      const copy = await findLayer(tx, this.#copies.get(layer.id) ?? '');
      await hold(tx, holder, copy ? [layer.id, copy.id] : [layer.id]);
      return copy;
    });
    try {
      await task(known ?? (await this.#copy(ctx, layer, holder, options)));
    } finally {
      await ctx.gc.letGo(holder);
    }
  }

  async #copy(
    ctx: MachinesContext,
    layer: LayerRow,
    holder: `flatten:${string}`,
    options: CallOptions,
  ): Promise<LayerRow> {
    const copy = await copyDisk(ctx, layer, options);
    try {
      await ctx.commits.run(async (tx) => {
        await insertLayers(tx, [copy]);
        await hold(tx, holder, [copy.id]);
      });
    } catch (error) {
      await ctx.layers.remove(copy.id);
      throw error;
    }
    this.#copies.set(layer.id, copy.id);
    return copy;
  }

  /** Puts a head on the copy of its parent, unless it stands on something else by now. */
  async #swap(
    ctx: MachinesContext,
    row: BoxRow,
    slot: DiskSlot,
    parent: LayerRow,
    copy: LayerRow,
  ): Promise<void> {
    const id = row[headColumn[slot]];
    const old = await chainOf(ctx.db, id);
    if (old.at(-2)?.id !== parent.id) return;
    await ctx.commits.run((tx) => setParent(tx, id, copy.id));
    await useParent(ctx, ctx.live.get(row.id), slot, { head: id, parent: copy, old: old.slice(0, -1) });
    await noteFinished(ctx.db, 'layer', [id]);
  }
}
