import { CryoboxError } from '../../errors.js';
import { activeHeads, type DiskSlot } from '../../machine/index.js';
import { type BoxRow, holdOnly } from '../../store/index.js';
import { requireRow } from '../boxes/rows.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { requireLayer } from './layers.js';

const column = { guest: 'guest_head', disk: 'disk_head' } as const;

/**
 * Makes the database agree with what a running machine writes: a switch of heads that the machine has made and the
 * database does not know, because the commit was never reached, is committed now. Throws `integrity` when the machine
 * writes something that does not descend from the box's head.
 */
export async function reconcileHeads(ctx: EngineContext, live: LiveBox, row: BoxRow): Promise<BoxRow> {
  const active = await activeHeads(live.machine.qmp);
  const changed = (Object.keys(column) as DiskSlot[]).filter((slot) => {
    const head = active[slot];
    return head !== undefined && head !== row[column[slot]];
  });
  if (changed.length === 0) return row;
  await ctx.commits.run(async (tx) => {
    const heads = { guest_head: row.guest_head, disk_head: row.disk_head };
    for (const slot of changed) {
      const old = await requireLayer(tx, row[column[slot]]);
      const id = active[slot] ?? '';
      if (!(await ctx.layers.isHeadOn(id, old.id))) {
        throw new CryoboxError(
          'integrity',
          `the machine of box ${row.id} writes ${id}, which is not on ${old.id}`,
        );
      }
      const head = { ...ctx.layers.newRow({ ...old, parent_id: old.id, kind: 'qcow2', state: 'head' }), id };
      await tx.insertInto('layers').values(head).execute();
      await tx.updateTable('layers').set({ state: 'sealed' }).where('id', '=', old.id).execute();
      heads[column[slot]] = id;
    }
    await tx.updateTable('boxes').set(heads).where('id', '=', row.id).execute();
    await holdOnly(tx, `box:${row.id}`, [heads.guest_head, heads.disk_head]);
  });
  return await requireRow(ctx.db, row.id);
}
