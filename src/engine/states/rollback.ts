import { CryoboxError } from '../../errors.js';
import { type BoxRow, changeHeads, insertLayers, type SnapshotRow } from '../../store/index.js';
import { headsOf } from '../layers/heads.js';
import { requireMemory } from '../layers/memories.js';
import type { MachinesContext } from '../machines/context.js';
import { compatibleGolden } from '../machines/guard.js';
import { openForResume } from '../machines/source.js';
import { endMachine } from '../machines/stop.js';
import { announce } from '../record/rows.js';
import { attachmentsOf } from '../volumes/attachments.js';
import { checkStamps } from '../volumes/stamps.js';
import { resumeBox } from './resume.js';

/**
 * Puts a box back to a snapshot with memory: same id, processes as they were. Called under the box's lock. Nothing of
 * the box changes before the snapshot is known to fit; when the resume itself fails the box is paused at the snapshot.
 * Throws `invalid_state` when the snapshot has no memory or does not fit this host, `integrity`, `resource_exhausted` for a
 * box that does not run, `machine_failed`.
 */
export async function rollBack(ctx: MachinesContext, row: BoxRow, snapshot: SnapshotRow): Promise<void> {
  if (snapshot.memory_id === null) {
    throw new CryoboxError('invalid_state', `snapshot ${JSON.stringify(snapshot.name)} has no memory`, {
      hint: 'Stop the box and restore the snapshot without live, or take snapshots with memory.',
      details: { snapshot: snapshot.id },
    });
  }
  const memory = await requireMemory(ctx.db, snapshot.memory_id);
  await using opened = await openForResume(ctx, memory, await compatibleGolden(ctx, memory));
  await checkStamps(ctx, memory, await attachmentsOf(ctx.db, row));
  // A box that runs keeps its place while it is put back.
  using _ = await ctx.limits.enter(row);
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
      await insertLayers(tx, [guest, disk]);
      await changeHeads(tx, row.id, { ...changes, updated_at: Date.now() });
    });
  } catch (error) {
    for (const { id } of [guest, disk]) await ctx.layers.remove(id);
    throw error;
  }
  // Not before the commit: a box whose machine has ended and that still says it runs has lost everything.
  const live = ctx.live.get(row.id);
  if (live) await endMachine(ctx, live, 'restored');
  else ctx.live.endWaiting(row.id, 'restored');
  announce(ctx, row, 'restored');
  ctx.gc.soon();
  // The time of a run goes on, whatever is rolled back in it.
  await resumeBox(ctx, { ...row, ...changes }, { opened, ...(live && { endsAt: live.endsAt }) });
}
