import { throwIfCancelled } from '../../base/abort.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import {
  type BoxRow,
  changeMachine,
  type Database,
  insertSnapshot,
  type MemoryRow,
  type SnapshotRow,
} from '../../store/index.js';
import { requireMemory } from '../layers/memories.js';
import type { MachinesContext } from '../machines/context.js';
import type { LiveBox } from '../machines/live.js';
import { requireRow } from '../record/rows.js';
import { refuseVolumes } from '../volumes/rules.js';
import { captureMachine } from './memory-capture.js';
import { syncDisks } from './sync.js';

/** A memory of a box that something is about to refer to. */
export interface TakenMemory {
  readonly memory: MemoryRow;
  /** How long the guest stood still; 0 when it was not running. */
  readonly guestPauseMs: number;
}

/**
 * Takes the memory of a running box, which goes on at once, or of a paused one, and runs `refer` in the commit that
 * makes it true. Called under the box's lock. Throws `invalid_state` when the box has no memory, `disk_full`,
 * `machine_failed`, and what `refer` throws; nothing is left then.
 */
export async function takeMemory(
  ctx: MachinesContext,
  row: BoxRow,
  refer: (tx: Database, memory: MemoryRow) => Promise<void>,
): Promise<TakenMemory> {
  const live = ctx.live.get(row.id);
  if (live) return await takeRunning(ctx, row, live, refer);
  if (row.memory_id === null) {
    throw new CryoboxError(
      'invalid_state',
      `the box is ${row.status}: only a running or paused one has memory`,
      {
        hint: 'Start the box first, or leave its memory out.',
        details: { box: row.id, status: row.status },
      },
    );
  }
  const memory = await requireMemory(ctx.db, row.memory_id);
  await ctx.commits.run((tx) => refer(tx, memory));
  return { memory, guestPauseMs: 0 };
}

async function takeRunning(
  ctx: MachinesContext,
  row: BoxRow,
  live: LiveBox,
  refer: (tx: Database, memory: MemoryRow) => Promise<void>,
): Promise<TakenMemory> {
  await ctx.flattener.makeRoom(row);
  const captured = await captureMachine(ctx, await requireRow(ctx.db, row.id), live, { goOn: true });
  const { memory, guestPauseMs } = captured;
  try {
    await ctx.commits.run(async (tx) => {
      await captured.apply(tx);
      // The next capture is compared with this one, so it stays as long as the machine.
      await changeMachine(tx, live.machineId, { memory_id: memory.id });
      await refer(tx, memory);
    });
  } catch (error) {
    await captured.discard();
    throw error;
  }
  live.memory.memoryId = memory.id;
  await captured.seal();
  ctx.merger.consider(memory.id);
  return { memory, guestPauseMs };
}

/** Takes a snapshot with memory. Called under the box's lock. Throws as {@link takeMemory}, and `cancelled`. */
export async function snapshotMemory(
  ctx: MachinesContext,
  box: BoxRow,
  name: string,
  signal?: AbortSignal,
): Promise<{ row: SnapshotRow; guestPauseMs: number }> {
  refuseVolumes(box, 'take a snapshot with memory of', 'read-only');
  let row: SnapshotRow | undefined;
  const live = ctx.live.get(box.id);
  if (live) await syncDisks(ctx, live, box);
  const { guestPauseMs } = await takeMemory(ctx, box, async (tx, memory) => {
    throwIfCancelled(signal, 'the snapshot');
    row = {
      id: newId('snp'),
      box_id: box.id,
      name,
      created_at: Date.now(),
      parent_id: box.snapshot_id,
      consistency: 'crash',
      disk_size_gb: box.disk_size_gb,
      golden_key: memory.golden_key,
      guest_layer: memory.guest_layer,
      disk_layer: memory.disk_layer,
      memory_id: memory.id,
    };
    await ctx.limits.admit(tx, box.tenant, { snapshots: 1 });
    await insertSnapshot(tx, row);
  });
  if (!row) throw new CryoboxError('internal', 'a snapshot was not stored');
  return { row, guestPauseMs };
}
