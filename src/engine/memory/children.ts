import { availableParallelism } from 'node:os';
import { throwIfCancelled } from '../../base/abort.js';
import { Semaphore } from '../../base/mutex.js';
import { type BoxRow, databaseError, hold, isUniqueViolation, type MemoryRow } from '../../store/index.js';
import { armTimers } from '../boxes/idle.js';
import { nameTaken } from '../boxes/names.js';
import { type NewBox, newBoxRow } from '../boxes/new-row.js';
import { announce } from '../boxes/rows.js';
import { removeBox } from '../boxes/stop.js';
import type { EngineContext } from '../context.js';
import type { Attachment } from '../volumes/attachment.js';
import { insertAttachments } from '../volumes/attachments.js';
import { headsOf } from './heads.js';
import { resumeBox } from './resume.js';
import { requireMemory } from './rows.js';
import type { OpenedMemory } from './source.js';

/** What of a new box does not follow from the memory it goes on from. */
export type ChildFacts = Omit<
  NewBox,
  'status' | 'guest_head' | 'disk_head' | 'golden_key' | 'memory_id' | 'cpus' | 'memory_mib'
>;

/** Children of one memory that are restored at once: more only wait for processors. */
const restores = new Semaphore(Math.max(2, availableParallelism()));

/**
 * Restores a stored child: own identity, own disks. When it does not come up, nothing of it is left. Throws what a
 * resume throws, `cancelled`.
 */
export async function bringUpChild(
  ctx: EngineContext,
  opened: OpenedMemory,
  row: BoxRow,
  signal?: AbortSignal,
): Promise<void> {
  await restores.run(async () => {
    await ctx.boxLocks.run(row.id, async () => {
      ctx.activities.set(row.id, 'starting');
      try {
        throwIfCancelled(signal, 'making a box from memory');
        await resumeBox(ctx, row, { opened, newIdentity: true });
        armTimers(ctx, row);
      } catch (error) {
        await removeBox(ctx, row);
        throw error;
      } finally {
        ctx.activities.delete(row.id);
      }
    });
  });
  ctx.counters.add(row.tenant, 'boxesCreatedTotal');
}

/**
 * Stores a box that is about to go on from a memory, as `configured`: an engine that finds it so knows that it never came
 * up, and removes it. Throws `already_exists`, `integrity` when the memory is gone.
 */
export async function insertChild(
  ctx: EngineContext,
  memory: MemoryRow,
  id: string,
  facts: ChildFacts,
  volumes: readonly Attachment[],
): Promise<BoxRow> {
  const { guest, disk } = await headsOf(ctx, memory);
  const made: NewBox = {
    ...facts,
    status: 'configured',
    guest_head: guest.id,
    disk_head: disk.id,
    golden_key: memory.golden_key,
    memory_id: memory.id,
    cpus: memory.cpus,
    memory_mib: memory.memory_mib,
  };
  const row = newBoxRow(made, id);
  try {
    // A crash may lose it again: nobody has been told of it.
    await ctx.db.transaction().execute(async (tx) => {
      await requireMemory(tx, memory.id);
      await tx.insertInto('layers').values([guest, disk]).execute();
      await tx.insertInto('boxes').values(row).execute();
      await insertAttachments(tx, row.id, volumes);
      await hold(tx, `box:${row.id}`, [guest.id, disk.id]);
    });
  } catch (error) {
    await ctx.layers.remove(guest.id);
    await ctx.layers.remove(disk.id);
    throw isUniqueViolation(error) ? nameTaken(facts.name ?? '') : databaseError(error);
  }
  announce(ctx, row, 'created');
  return row;
}
