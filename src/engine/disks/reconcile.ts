import { CryoboxError, messageOf } from '../../errors.js';
import { activeHeads, type DiskSlot } from '../../machine/index.js';
import { type BoxRow, holdOnly } from '../../store/index.js';
import { requireRow } from '../boxes/rows.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { headColumn, requireLayer } from './layers.js';

/**
 * Makes the database agree with what a running machine writes: a switch of heads that the machine has made and the
 * database does not know, because the commit was never reached, is committed now. Throws `integrity` when the machine
 * writes something that does not descend from the box's head.
 */
export async function reconcileHeads(ctx: EngineContext, live: LiveBox, row: BoxRow): Promise<BoxRow> {
  const active = await activeHeads(live.machine.qmp);
  const changed = (Object.keys(headColumn) as DiskSlot[]).filter((slot) => {
    const head = active[slot];
    return head !== undefined && head !== row[headColumn[slot]];
  });
  if (changed.length === 0) return row;
  const files = changed.map((slot) => active[slot] ?? '');
  await ctx.layers.sync([...files, ...changed.map((slot) => row[headColumn[slot]])]);
  await ctx.commits.run(async (tx) => {
    const heads = { guest_head: row.guest_head, disk_head: row.disk_head };
    for (const slot of changed) {
      const old = await requireLayer(tx, row[headColumn[slot]]);
      const id = active[slot] ?? '';
      if (!(await ctx.layers.isHeadOn(id, old.id))) {
        throw new CryoboxError(
          'integrity',
          `the machine of box ${row.id} writes ${id}, which is not on ${old.id}`,
        );
      }
      const size_bytes = await ctx.layers.allocatedBytes(id);
      const created_at = Date.now();
      const head = { ...old, id, kind: 'qcow2', parent_id: old.id, size_bytes, sha256: null, created_at };
      await tx.insertInto('layers').values(head).execute();
      await tx.updateTable('layers').set({ state: 'sealed' }).where('id', '=', old.id).execute();
      heads[headColumn[slot]] = id;
    }
    await tx.updateTable('boxes').set(heads).where('id', '=', row.id).execute();
    await holdOnly(tx, `box:${row.id}`, [heads.guest_head, heads.disk_head]);
  });
  for (const slot of changed) await ctx.layers.seal(row[headColumn[slot]]);
  return await requireRow(ctx.db, row.id);
}

/**
 * After a capture that failed: what the machine writes into heads that it has switched to, and that no commit knows,
 * would be lost with the machine. Where that cannot be committed either, the next operation on the box tries again.
 */
export async function keepSwitch(ctx: EngineContext, live: LiveBox): Promise<void> {
  try {
    await reconcileHeads(ctx, live, await requireRow(ctx.db, live.boxId));
  } catch (error) {
    ctx.logger.warn('cannot record the heads of a machine', { box: live.boxId, reason: messageOf(error) });
  }
}
