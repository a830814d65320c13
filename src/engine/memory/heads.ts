import { stat } from 'node:fs/promises';
import { type BoxRow, holdOnly, type LayerRow, type MemoryRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { requireLayer } from '../disks/layers.js';
import { emptyHeadBytes } from '../layer-files.js';

/** Empty heads on the disks that a memory belongs to, as files and rows that are not stored yet. */
export async function headsOf(
  ctx: EngineContext,
  memory: Pick<MemoryRow, 'guest_layer' | 'disk_layer'>,
): Promise<{ guest: LayerRow; disk: LayerRow }> {
  const guest = await ctx.layers.newHead(await requireLayer(ctx.db, memory.guest_layer));
  const disk = await ctx.layers.newHead(await requireLayer(ctx.db, memory.disk_layer));
  return { guest, disk };
}

/**
 * A memory goes on only with the disks of its moment. Gives a paused box new heads when a resume that failed, or an
 * engine that died in one, has left something in them. Returns the box as it is then.
 */
export async function cleanHeads(ctx: EngineContext, row: BoxRow, memory: MemoryRow): Promise<BoxRow> {
  const clean = await Promise.all([isEmpty(ctx, row.guest_head), isEmpty(ctx, row.disk_head)]);
  if (clean.every((it) => it)) return row;
  const { guest, disk } = await headsOf(ctx, memory);
  const heads = { guest_head: guest.id, disk_head: disk.id };
  await ctx.commits.run(async (tx) => {
    await tx.insertInto('layers').values([guest, disk]).execute();
    await tx.updateTable('boxes').set(heads).where('id', '=', row.id).execute();
    await holdOnly(tx, `box:${row.id}`, [guest.id, disk.id]);
  });
  ctx.gc.soon();
  return { ...row, ...heads };
}

async function isEmpty(ctx: EngineContext, headId: string): Promise<boolean> {
  const { size } = await stat(ctx.layers.path(headId));
  return size <= emptyHeadBytes;
}
