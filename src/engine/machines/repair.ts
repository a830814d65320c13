import { statSync } from 'node:fs';
import { Turns } from '../../base/turns.js';
import { messageOf } from '../../errors.js';
import { type Qcow2Header, readHeader, readHeaderSync } from '../../formats/qcow2/index.js';
import { hostBootId } from '../../machine/index.js';
import {
  bootOfLayers,
  chainOf,
  findBoxWithHead,
  findLayers,
  keepBootOfLayers,
  type LayerRow,
  layersToProve,
  noteFinished,
  noteUnfinished,
  releaseKind,
  requireLayer,
  unfinished,
} from '../../store/index.js';
import { headColumn, slots } from '../layers/disk-layers.js';
import { requireRow } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import { sealUnderHeads, useParent } from './parent.js';

/**
 * Brings the files of layers to what the database says, after an engine ended at whatever instruction: what it held
 * for its own work is let go, sealed files are unchangeable, heads are there and name what they stand on. Looks at what
 * commits left to be done, and once after each boot of the host at whatever may not have been durable.
 */
export async function repairLayers(ctx: MachinesContext): Promise<void> {
  await ctx.commits.run(async (tx) => {
    for (const kind of ['export', 'flatten', 'resume'] as const) await releaseKind(tx, kind);
  });
  const boot = await hostBootId();
  const isNewBoot = (await bootOfLayers(ctx.db)) !== boot;
  await repairFiles(ctx, isNewBoot);
  if (isNewBoot) await keepBootOfLayers(ctx.db, boot);
  for (const live of ctx.live.all()) {
    const { guest_head, disk_head } = await requireRow(ctx.db, live.boxId);
    await sealUnderHeads(ctx, live, { guest: guest_head, disk: disk_head });
  }
}

/** Does what commits left to be done; with `all`, to all files that may have been lost with the power. */
async function repairFiles(ctx: MachinesContext, all: boolean): Promise<void> {
  const ids = await unfinished(ctx.db, 'layer');
  const rows = new Map((await findLayers(ctx.db, ids)).map((row) => [row.id, row]));
  if (all) for (const row of await layersToProve(ctx.db)) rows.set(row.id, row);
  const done = ids.filter((id) => !rows.has(id));
  const turns = new Turns();
  for (const row of rows.values()) {
    await turns.step();
    if (await repairLayer(ctx, row)) done.push(row.id);
    else await noteUnfinished(ctx.db, 'layer', row.id);
  }
  await noteFinished(ctx.db, 'layer', done);
}

/** Returns whether the file is as the row says; what keeps it from that is logged. */
async function repairLayer(ctx: MachinesContext, row: LayerRow): Promise<boolean> {
  try {
    if (row.state === 'sealed') await sealAgain(ctx, row);
    else if (row.parent_id !== null) await repairHead(ctx, row, row.parent_id);
    return true;
  } catch (error) {
    // One bad layer must not keep the others from their boxes; `verify` tells more.
    ctx.logger.error('cannot repair a layer', { layer: row.id, reason: messageOf(error) });
    return false;
  }
}

async function sealAgain(ctx: MachinesContext, { id }: LayerRow): Promise<void> {
  const facts = statSync(ctx.layers.path(id), { throwIfNoEntry: false });
  if (facts && (facts.mode & 0o222) !== 0) await ctx.layers.seal(id);
}

async function repairHead(ctx: MachinesContext, row: LayerRow, parentId: string): Promise<void> {
  const header = headerOf(ctx.layers.path(row.id));
  // Its size is noted when a machine gets it; until then the file was not made durable, and is empty.
  const isLost = !header && row.size_bytes === 0;
  if (!isLost && (!header || header.backing?.name === parentId)) return;
  const parent = await requireLayer(ctx.db, parentId);
  if (!isLost) return await finishMove(ctx, row, parent);
  await ctx.layers.remove(row.id);
  await ctx.layers.createHeadFile(row, parent);
}

/** A trip to another thread for each would take ten times as long, with thousands of heads. */
function headerOf(path: string): Qcow2Header | undefined {
  try {
    return readHeaderSync(path);
  } catch {
    return undefined;
  }
}

/** A flattener committed the new parent and did not come to the file. */
async function finishMove(ctx: MachinesContext, row: LayerRow, parent: LayerRow): Promise<void> {
  const box = await findBoxWithHead(ctx.db, row.id);
  const slot = slots.find((candidate) => box?.[headColumn[candidate]] === row.id);
  if (!box || !slot) return;
  const live = ctx.live.get(box.id);
  const former = (await readHeader(ctx.layers.path(row.id))).backing?.name ?? '';
  await useParent(ctx, live, slot, { head: row.id, parent, old: await chainOf(ctx.db, former) });
}
