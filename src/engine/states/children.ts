import { availableParallelism } from 'node:os';
import { throwIfCancelled } from '../../base/abort.js';
import { Semaphore } from '../../base/mutex.js';
import {
  type BoxRow,
  databaseError,
  insertBox,
  insertPorts,
  isUniqueViolation,
  type MemoryRow,
  putSecrets,
  type SecretRow,
} from '../../store/index.js';
import { roomOf } from '../core/limits.js';
import type { TakenPorts } from '../core/published-ports.js';
import { headsOf } from '../layers/heads.js';
import { requireMemory } from '../layers/memories.js';
import type { MachinesContext } from '../machines/context.js';
import type { OpenedMemory } from '../machines/source.js';
import { removeBox } from '../machines/stop.js';
import { nameTaken } from '../record/names.js';
import { type NewBox, newBoxRow } from '../record/new-row.js';
import { announce } from '../record/rows.js';
import type { Attachment } from '../volumes/attachment.js';
import { insertAttachments } from '../volumes/attachments.js';
import { resumeBox } from './resume.js';

/** What of a new box does not follow from the memory it goes on from. */
export type ChildFacts = Omit<
  NewBox,
  'status' | 'guest_head' | 'disk_head' | 'golden_key' | 'memory_id' | 'cpus' | 'memory_mib'
>;

/** Children of one memory that are restored at once: more only wait for processors. */
const restores = new Semaphore(Math.max(2, availableParallelism()));

/**
 * Restores a stored child: own identity, own disks. Called under its lock, which is taken before the child is stored: it is
 * seen from then on, and who uses it must not bring it up another way. When it does not come up, nothing of it is left.
 * Throws what a resume throws, `cancelled`.
 */
export async function bringUpChild(
  ctx: MachinesContext,
  opened: OpenedMemory,
  row: BoxRow,
  signal?: AbortSignal,
): Promise<void> {
  await restores.run(async () => {
    using _ = ctx.activity.use(row.id);
    ctx.activities.set(row.id, 'starting');
    try {
      throwIfCancelled(signal, 'making a box from memory');
      await resumeBox(ctx, row, { opened, newIdentity: true, signal });
    } catch (error) {
      await removeBox(ctx, row);
      throw error;
    } finally {
      ctx.activities.delete(row.id);
    }
  });
  ctx.counters.add(row.tenant, 'boxesCreatedTotal');
}

/**
 * Stores a box that is about to go on from a memory, as `configured`: an engine that finds it so knows that it never came
 * up, and removes it. Throws `already_exists`, `integrity` when the memory is gone.
 */
export async function insertChild(
  ctx: MachinesContext,
  memory: MemoryRow,
  id: string,
  facts: ChildFacts,
  volumes: readonly Attachment[],
  { ports, secrets }: { readonly ports?: TakenPorts; readonly secrets: readonly SecretRow[] },
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
      await ctx.limits.admit(tx, row.tenant, roomOf(row));
      await insertBox(tx, row, [guest, disk]);
      await insertAttachments(tx, row.id, volumes);
      await insertPorts(tx, ports?.rowsFor(row.id) ?? []);
      await putSecrets(tx, secrets);
    });
  } catch (error) {
    await ctx.layers.remove(guest.id);
    await ctx.layers.remove(disk.id);
    throw isUniqueViolation(error) ? nameTaken(facts.name ?? '') : databaseError(error);
  }
  ports?.give(row.id);
  announce(ctx, row, 'created');
  ctx.activity.watch(row);
  return row;
}
