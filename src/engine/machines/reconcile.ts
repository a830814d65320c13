import { readdir, stat } from 'node:fs/promises';
import { CryoboxError, messageOf } from '../../errors.js';
import { readHeader } from '../../formats/qcow2/index.js';
import { activeHeads, type DiskSlot } from '../../machine/index.js';
import {
  allBoxes,
  type BoxRow,
  changeHeads,
  findBox,
  idsOf,
  insertLayers,
  noteFinished,
  requireLayer,
  sealLayer,
} from '../../store/index.js';
import { headColumn, slots } from '../layers/disk-layers.js';
import { emptyHeadBytes } from '../layers/layer-files.js';
import { requireRow } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import type { LiveBox } from './live.js';

/** Ids of heads, by the disk that they are of. */
export type Heads = Readonly<Partial<Record<DiskSlot, string>>>;

/**
 * Makes the database agree with what a running machine writes: a switch of heads that the machine has made and the
 * database does not know, because the commit was never reached, is committed now. Throws `integrity` when the machine
 * writes something that does not descend from the box's head.
 */
export async function reconcileHeads(ctx: MachinesContext, live: LiveBox, row: BoxRow): Promise<BoxRow> {
  const recorded = await recordHeads(ctx, row, await activeHeads(live.machine.qmp));
  live.unrecorded = undefined;
  return recorded;
}

/**
 * Records the heads that a machine wrote which has ended, where that failed while it lived: its box would go on without
 * what it wrote last. Throws what the database and the host refuse; `integrity` as {@link reconcileHeads}.
 */
export async function recordLastHeads(ctx: MachinesContext, live: LiveBox): Promise<void> {
  const row = live.unrecorded && (await findBox(ctx.db, live.boxId));
  if (row && live.unrecorded) await recordHeads(ctx, row, live.unrecorded);
  live.unrecorded = undefined;
}

/** Removes the heads that no commit knows of a machine that has ended, and that nobody wants: its box is gone, or put back. */
export async function dropLastHeads(ctx: MachinesContext, live: LiveBox): Promise<void> {
  for (const id of Object.values(live.unrecorded ?? {})) await ctx.layers.remove(id);
  live.unrecorded = undefined;
}

/** Commits heads that stand on those which the database names. Throws `integrity` when one does not. */
async function recordHeads(ctx: MachinesContext, row: BoxRow, written: Heads): Promise<BoxRow> {
  const changed = slots.filter((slot) => {
    const head = written[slot];
    return head !== undefined && head !== row[headColumn[slot]];
  });
  if (changed.length === 0) return row;
  const files = changed.map((slot) => written[slot] ?? '');
  await ctx.layers.sync([...files, ...changed.map((slot) => row[headColumn[slot]])]);
  await ctx.commits.run(async (tx) => {
    const heads = { guest_head: row.guest_head, disk_head: row.disk_head };
    for (const slot of changed) {
      const old = await requireLayer(tx, row[headColumn[slot]]);
      const id = written[slot] ?? '';
      if (!(await ctx.layers.isHeadOn(id, old.id))) {
        throw new CryoboxError(
          'integrity',
          `the machine of box ${row.id} writes ${id}, which is not on ${old.id}`,
        );
      }
      const size_bytes = await ctx.layers.allocatedBytes(id);
      const created_at = Date.now();
      const head = { ...old, id, kind: 'qcow2', parent_id: old.id, size_bytes, sha256: null, created_at };
      await insertLayers(tx, [head]);
      await sealLayer(tx, old.id);
      heads[headColumn[slot]] = id;
    }
    await changeHeads(tx, row.id, heads);
  });
  const sealed = changed.map((slot) => row[headColumn[slot]]);
  for (const id of sealed) await ctx.layers.seal(id);
  await noteFinished(ctx.db, 'layer', sealed);
  return await requireRow(ctx.db, row.id);
}

/**
 * After a capture that failed: what the machine writes, or has written before it ended, into heads that it has switched
 * to and that no commit knows, would be lost. Where that cannot be committed either, the next capture tries again, or the
 * end of the machine, or the next start of the engine.
 */
export async function keepSwitch(ctx: MachinesContext, boxId: string, made: Heads): Promise<void> {
  const live = ctx.live.get(boxId);
  const asked = live && (await activeHeads(live.machine.qmp).catch(() => undefined));
  // A machine that has ended has made the switch, or has written to neither file.
  const written = asked ?? made;
  try {
    await recordHeads(ctx, await requireRow(ctx.db, boxId), written);
  } catch (error) {
    if (live) live.unrecorded = written;
    ctx.logger.warn('cannot record the heads of a machine', { box: boxId, reason: messageOf(error) });
  }
}

/**
 * After a switch of heads that failed: keeps those of the new heads that the machine writes nevertheless, and removes
 * the others. The guest stands still.
 */
export async function undoSwitch(ctx: MachinesContext, live: LiveBox, made: Heads): Promise<void> {
  const active = await activeHeads(live.machine.qmp).catch(() => undefined);
  // One that does not answer and lives may have made the switch: the next start of the engine looks at the files.
  if (!active && (await live.machine.isAlive())) return;
  const written = slots.filter((slot) => active?.[slot] !== undefined && active[slot] === made[slot]);
  if (written.length > 0) await keepSwitch(ctx, live.boxId, made);
  for (const slot of slots) {
    const id = made[slot];
    if (id !== undefined && !written.includes(slot)) await ctx.layers.remove(id);
  }
}

/**
 * Finds what machines that are gone have written into heads which no commit knows: the engine ended, or the power went,
 * between the switch and the commit. Called when an engine starts, before garbage is collected.
 */
export async function findHeads(ctx: MachinesContext): Promise<void> {
  const known = await idsOf(ctx.db, 'layers');
  const unknown = new Set((await readdir(ctx.paths.layers)).filter((id) => !known.has(id)));
  // One may stand on another one.
  for (let found = true; found && unknown.size > 0; ) {
    found = false;
    for (const row of await allBoxes(ctx.db)) {
      if (ctx.live.get(row.id)) continue;
      const heads = await headsAmong(ctx, unknown, row);
      if (Object.keys(heads).length === 0) continue;
      for (const id of Object.values(heads)) unknown.delete(id);
      ctx.logger.warn('found what a machine wrote last', {
        box: row.id,
        heads: Object.values(heads).join(' '),
      });
      await recordHeads(ctx, row, heads);
      found = true;
    }
  }
}

async function headsAmong(ctx: MachinesContext, ids: ReadonlySet<string>, row: BoxRow): Promise<Heads> {
  const heads: Partial<Record<DiskSlot, string>> = {};
  for (const id of ids) {
    const header = await readHeader(ctx.layers.path(id)).catch(() => undefined);
    const slot = slots.find((it) => header?.backing?.name === row[headColumn[it]]);
    if (slot && (await wasWritten(ctx, id, row[headColumn[slot]]))) heads[slot] = id;
  }
  return heads;
}

/** Whether there is something in a head, and it was written after the one that it stands on. */
async function wasWritten(ctx: MachinesContext, id: string, under: string): Promise<boolean> {
  const [head, old] = await Promise.all([stat(ctx.layers.path(id)), stat(ctx.layers.path(under))]);
  return head.size > emptyHeadBytes && head.mtimeMs >= old.mtimeMs;
}
