import { stat } from 'node:fs/promises';
import { ifExists } from '../../base/files.js';
import { readHeader } from '../../disk/index.js';
import { messageOf } from '../../errors.js';
import { chainOf, type LayerRow } from '../../store/index.js';
import { requireRow } from '../boxes/rows.js';
import type { EngineContext } from '../context.js';
import { headColumn, requireLayer, slots } from './layers.js';
import { sealUnderHeads, useParent } from './parent.js';

/**
 * Brings the files of layers to what the database says, after an engine ended at whatever instruction: what it held
 * for its own work is let go, sealed files are unchangeable, heads are there and name what they stand on.
 */
export async function repairLayers(ctx: EngineContext): Promise<void> {
  await ctx.commits.run(async (tx) => {
    for (const kind of ['export', 'flatten']) {
      await tx.deleteFrom('layer_holds').where('holder', 'like', `${kind}:%`).execute();
    }
  });
  const rows = await ctx.db.selectFrom('layers').selectAll().execute();
  for (const row of rows) {
    try {
      if (row.state === 'sealed') await sealAgain(ctx, row);
      else await repairHead(ctx, row);
    } catch (error) {
      // One bad layer must not keep the others from their boxes; `verify` tells more.
      ctx.logger.error('cannot repair a layer', { layer: row.id, reason: messageOf(error) });
    }
  }
  for (const live of ctx.live.all()) {
    const { guest_head, disk_head } = await requireRow(ctx.db, live.boxId);
    await sealUnderHeads(ctx, live, { guest: guest_head, disk: disk_head });
  }
}

async function sealAgain(ctx: EngineContext, { id }: LayerRow): Promise<void> {
  const facts = await ifExists(stat(ctx.layers.path(id)));
  if (facts && (facts.mode & 0o222) !== 0) await ctx.layers.seal(id);
}

async function repairHead(ctx: EngineContext, row: LayerRow): Promise<void> {
  if (row.parent_id === null) return;
  const parent = await requireLayer(ctx.db, row.parent_id);
  const header = await readHeader(ctx.layers.path(row.id)).catch(() => undefined);
  // Its size is noted when a machine gets it; until then the file was not made durable, and is empty.
  if (!header && row.size_bytes === 0) {
    await ctx.layers.remove(row.id);
    await ctx.layers.createHeadFile(row, parent);
  } else if (header && header.backing?.name !== parent.id) await finishMove(ctx, row, parent);
}

/** A flattener committed the new parent and did not come to the file. */
async function finishMove(ctx: EngineContext, row: LayerRow, parent: LayerRow): Promise<void> {
  const box = await ctx.db
    .selectFrom('boxes')
    .select(['id', 'guest_head', 'disk_head'])
    .where((q) => q.or([q('guest_head', '=', row.id), q('disk_head', '=', row.id)]))
    .executeTakeFirst();
  const slot = slots.find((candidate) => box?.[headColumn[candidate]] === row.id);
  if (!box || !slot) return;
  const live = ctx.live.get(box.id);
  const former = (await readHeader(ctx.layers.path(row.id))).backing?.name ?? '';
  await useParent(ctx, live, slot, { head: row.id, parent, old: await chainOf(ctx.db, former) });
}
