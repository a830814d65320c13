import { CryoboxError } from '../../errors.js';
import { type BoxRow, holdOnly, type SnapshotRow } from '../../store/index.js';
import { announce } from '../boxes/rows.js';
import { endMachine } from '../boxes/stop.js';
import type { EngineContext } from '../context.js';
import { attachmentsOf } from '../volumes/attachments.js';
import { checkStamps } from '../volumes/stamps.js';
import { compatibleGolden } from './guard.js';
import { headsOf } from './heads.js';
import { resumeBox } from './resume.js';
import { requireMemory } from './rows.js';
import { openForResume } from './source.js';

/**
 * Puts a box back to a snapshot with memory: same id, processes as they were. Called under the box's lock. Nothing of
 * the box changes before the snapshot is known to fit; when the resume itself fails the box is paused at the snapshot.
 * Throws `invalid_state` when the snapshot has no memory or does not fit this host, `integrity`, `machine_failed`.
 */
export async function rollBack(ctx: EngineContext, row: BoxRow, snapshot: SnapshotRow): Promise<void> {
  if (snapshot.memory_id === null) {
    throw new CryoboxError('invalid_state', `snapshot ${JSON.stringify(snapshot.name)} has no memory`, {
      hint: 'Stop the box and restore the snapshot without live, or take snapshots with memory.',
      details: { snapshot: snapshot.id },
    });
  }
  const memory = await requireMemory(ctx.db, snapshot.memory_id);
  await using opened = await openForResume(ctx, memory, await compatibleGolden(ctx, memory));
  await checkStamps(ctx, memory, await attachmentsOf(ctx.db, row));
  const { guest, disk } = await headsOf(ctx, memory);
  const changes = {
    guest_head: guest.id,
    disk_head: disk.id,
    memory_id: memory.id,
    snapshot_id: snapshot.id,
    golden_key: memory.golden_key,
    disk_size_gb: snapshot.disk_size_gb,
    status: 'paused',
    failure: null,
  };
  try {
    await ctx.commits.run(async (tx) => {
      await tx.insertInto('layers').values([guest, disk]).execute();
      await tx
        .updateTable('boxes')
        .set({ ...changes, updated_at: Date.now() })
        .where('id', '=', row.id)
        .execute();
      await holdOnly(tx, `box:${row.id}`, [guest.id, disk.id]);
    });
  } catch (error) {
    for (const { id } of [guest, disk]) await ctx.layers.remove(id);
    throw error;
  }
  // Not before the commit: a box whose machine has ended and that still says it runs has lost everything.
  const live = ctx.live.get(row.id);
  if (live) await endMachine(ctx, live);
  announce(ctx, row, 'restored');
  ctx.gc.soon();
  await resumeBox(ctx, { ...row, ...changes }, { opened });
}
