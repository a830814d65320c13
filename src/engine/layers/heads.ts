import { stat } from 'node:fs/promises';
import { newId } from '../../base/ids.js';
import {
  type BoxRow,
  changeHeads,
  type Database,
  databaseError,
  hold,
  insertLayers,
  type LayerRow,
  type MemoryRow,
  requireLayer,
} from '../../store/index.js';
import type { LayersContext } from './context.js';
import { emptyHeadBytes } from './layer-files.js';

/** Empty heads on the disks that a memory belongs to, as files and rows that are not stored yet. */
export async function headsOf(
  ctx: LayersContext,
  memory: Pick<MemoryRow, 'guest_layer' | 'disk_layer'>,
): Promise<{ guest: LayerRow; disk: LayerRow }> {
  const guest = await ctx.layers.newHead(await requireLayer(ctx.db, memory.guest_layer));
  const disk = await ctx.layers.newHead(await requireLayer(ctx.db, memory.disk_layer));
  return { guest, disk };
}

/** The disks that a machine is about to write, while they may not be its box's yet. */
export interface ResumeHeads extends AsyncDisposable {
  readonly guest: string;
  readonly disk: string;
  /** Makes them the box's: to be run in the transaction that says that it runs. */
  apply(tx: Database): Promise<void>;
}

/**
 * Disks for a box to go on with from a memory: those of its moment, empty heads on them. The box's own where they are just
 * that; else new ones, since a machine has written the box's (a resume that failed, or one that was cut short): they
 * stay until the resume has come to its end. To be disposed of after that, however it came.
 */
export async function headsForResume(
  ctx: LayersContext,
  row: BoxRow,
  memory: MemoryRow,
): Promise<ResumeHeads> {
  const fresh = await Promise.all([
    isFresh(ctx, row.guest_head, memory.guest_layer),
    isFresh(ctx, row.disk_head, memory.disk_layer),
  ]);
  if (fresh.every((it) => it)) {
    const own = { guest: row.guest_head, disk: row.disk_head };
    return { ...own, apply: async () => undefined, [Symbol.asyncDispose]: async () => undefined };
  }
  const { guest, disk } = await headsOf(ctx, memory);
  const holder = `resume:${newId('opn')}` as const;
  // A crash may lose this again: then nothing refers to them.
  try {
    await ctx.db.transaction().execute(async (tx) => {
      await insertLayers(tx, [guest, disk]);
      await hold(tx, holder, [guest.id, disk.id]);
    });
  } catch (error) {
    for (const { id } of [guest, disk]) await ctx.layers.remove(id);
    throw databaseError(error);
  }
  return {
    guest: guest.id,
    disk: disk.id,
    apply: async (tx) => {
      await changeHeads(tx, row.id, { guest_head: guest.id, disk_head: disk.id });
    },
    [Symbol.asyncDispose]: () => ctx.gc.letGo(holder),
  };
}

/** Whether nothing was written to a head, and it stands on that layer. */
async function isFresh(ctx: LayersContext, headId: string, layerId: string): Promise<boolean> {
  const { size } = await stat(ctx.layers.path(headId));
  return size <= emptyHeadBytes && (await requireLayer(ctx.db, headId)).parent_id === layerId;
}
