import { type DiskNode, type DiskSlot, makeReadOnly, replaceBacking } from '../../machine/index.js';
import { chainOf, type LayerRow } from '../../store/index.js';
import { slots } from '../layers/disk-layers.js';
import type { MachinesContext } from './context.js';
import type { LiveBox } from './live.js';

/** A head that stands on another parent from now on; both hold the same data. */
interface NewParent {
  readonly head: string;
  readonly parent: LayerRow;
  /** What it stood on before, the base first, as far as a machine may still have it open. */
  readonly old: readonly LayerRow[];
}

/**
 * Makes a machine read, and the head's header name, the parent that the database names already. May be done again
 * after a crash. Throws `machine_failed`, `storage_error`.
 */
export async function useParent(
  ctx: MachinesContext,
  live: LiveBox | undefined,
  slot: DiskSlot,
  { head, parent, old }: NewParent,
): Promise<void> {
  if (!live) return await ctx.layers.nameParent(head, parent, false);
  await live.machine.place({ path: ctx.layers.path(parent.id), name: parent.id, writable: false });
  await replaceBacking(live.machine.qmp, slot, {
    head: { id: head, format: 'qcow2' },
    backing: nodeOf(parent),
    old: old.map(nodeOf).reverse(),
  });
  await ctx.layers.nameParent(head, parent, true);
  for (const { id } of old) await live.machine.takeAway(id);
}

/** Takes from a running machine the means to write the layers right under its heads. */
export async function sealUnderHeads(
  ctx: MachinesContext,
  live: LiveBox,
  heads: Readonly<Partial<Record<DiskSlot, string>>>,
): Promise<void> {
  for (const slot of slots) {
    const chain = await chainOf(ctx.db, heads[slot] ?? '');
    const [layer, under] = [chain.at(-2), chain.at(-3)];
    if (layer?.kind !== 'qcow2') continue;
    await makeReadOnly(live.machine.qmp, slot, nodeOf(layer), under && nodeOf(under));
  }
}

function nodeOf({ id, kind }: LayerRow): DiskNode {
  return { id, format: kind === 'raw' ? 'raw' : 'qcow2' };
}
