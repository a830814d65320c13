import { throwIfCancelled } from '../../base/abort.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import type { BoxRow, MemoryRow } from '../../store/index.js';
import { roomOf } from '../core/limits.js';
import { requireMemory } from '../layers/memories.js';
import type { MachinesContext } from '../machines/context.js';
import { compatibleGolden } from '../machines/guard.js';
import { exclusively } from '../machines/locked.js';
import { type OpenedMemory, openForResume } from '../machines/source.js';
import { removeBox } from '../machines/stop.js';
import { checkInteger } from '../record/integers.js';
import { withIds } from '../record/once.js';
import { requireRow } from '../record/rows.js';
import { checkName } from '../record/validate.js';
import { attachmentsOf } from '../volumes/attachments.js';
import { refuseVolumes } from '../volumes/rules.js';
import { bringUpChild, insertChild } from './children.js';
import { takeMemory } from './memory-snapshot.js';
import { requireSnapshot } from './require-snapshot.js';

/** How a box is forked. */
export interface ForkOptions {
  readonly count: number;
  readonly names?: readonly string[];
  readonly fromSnapshot?: string;
  readonly operationId?: string;
  readonly signal?: AbortSignal;
}

/** A child that runs, or why there is none. */
export type Child = { readonly row: BoxRow } | { readonly error: Error };

/** Most children of one call: each is a machine of its own. */
const maxChildren = 100;

/**
 * Branches a box: one capture, and children that go on from it, each with an identity of its own. The parent goes on as
 * soon as its pages are safe. Throws `invalid_argument`, `invalid_state`, `not_found` for a snapshot that is not there,
 * `resource_exhausted` when there is no place for one child, and what a capture throws; what happens to one child is in its result.
 */
export async function forkBox(ctx: MachinesContext, boxId: string, options: ForkOptions): Promise<Child[]> {
  checkFork(options);
  const { operationId, count, names = [] } = options;
  const { tenant } = await requireRow(ctx.db, boxId);
  return await withIds(ctx, tenant, { operationId, count }, async (ids, madeBefore) => {
    const wanted = ids.map((id, index) => ({ id, name: names[index] ?? null }));
    const missing = wanted.filter(({ id }) => !madeBefore.has(id));
    const made = missing.length === 0 ? [] : await forkNew(ctx, boxId, missing, options);
    return ids.map((id) => {
      const row = madeBefore.get(id);
      return row
        ? { row }
        : childAt(
            made,
            missing.findIndex((child) => child.id === id),
          );
    });
  });
}

function childAt(children: readonly Child[], index: number): Child {
  return children[index] ?? { error: new CryoboxError('internal', 'a child of the fork was not made') };
}

/** A child that is to be made. */
interface Wanted {
  readonly id: string;
  readonly name: string | null;
}

async function forkNew(
  ctx: MachinesContext,
  boxId: string,
  wanted: readonly Wanted[],
  options: ForkOptions,
): Promise<Child[]> {
  const letGo = new Map<string, () => void>();
  for (const { id } of wanted) letGo.set(id, await ctx.boxLocks.hold(id));
  try {
    return await forkHeld(ctx, boxId, wanted, options, (id) => letGo.get(id)?.());
  } finally {
    for (const each of letGo.values()) each();
  }
}

/** The same under the locks of the children; `letGo` is called with the id of each that has come to its end. */
async function forkHeld(
  ctx: MachinesContext,
  boxId: string,
  wanted: readonly Wanted[],
  options: ForkOptions,
  letGo: (id: string) => void,
): Promise<Child[]> {
  const { children, memory } = await exclusively(
    ctx,
    boxId,
    options.fromSnapshot === undefined ? 'fork' : 'fork.fromSnapshot',
    async (row) => {
      // Before the guest stands still for it; each child is admitted again where it is stored.
      await ctx.limits.admit(ctx.db, row.tenant, roomOf(row));
      const source = await sourceOf(ctx, row, options.fromSnapshot);
      throwIfCancelled(options.signal, 'the fork');
      return { memory: source.memory, children: await insertChildren(ctx, source, wanted) };
    },
    options.signal,
  );
  await using opened = await openFor(ctx, memory, children);
  return await Promise.all(
    children.map(async (child): Promise<Child> => {
      if ('error' in child) return child;
      try {
        await bringUpChild(ctx, opened, child.row, options.signal);
        return child;
      } catch (error) {
        return { error: asError(error) };
      } finally {
        letGo(child.row.id);
      }
    }),
  );
}

/** Opens what the children go on from; when that fails there are none. */
async function openFor(
  ctx: MachinesContext,
  memory: MemoryRow,
  children: readonly Child[],
): Promise<OpenedMemory> {
  try {
    return await openForResume(ctx, memory, await compatibleGolden(ctx, memory));
  } catch (error) {
    for (const child of children) if ('row' in child) await removeBox(ctx, child.row);
    throw error;
  }
}

function checkFork({ count, names = [] }: ForkOptions): void {
  checkInteger('count', count ?? Number.NaN, 1, maxChildren);
  if (names.length > count) {
    throw new CryoboxError('invalid_argument', `names has ${names.length} entries, and count is ${count}`);
  }
  for (const name of names) checkName(name);
  if (new Set(names).size < names.length) {
    throw new CryoboxError('invalid_argument', 'names holds the same name twice');
  }
}

async function sourceOf(
  ctx: MachinesContext,
  row: BoxRow,
  snapshotName: string | undefined,
): Promise<{ row: BoxRow; memory: MemoryRow }> {
  if (snapshotName === undefined) {
    refuseVolumes(row, 'fork', 'read-only');
    const { memory } = await takeMemory(ctx, row, async () => undefined);
    return { row, memory };
  }
  const snapshot = await requireSnapshot(ctx.db, row.id, snapshotName);
  if (snapshot.memory_id === null) {
    throw new CryoboxError('invalid_state', `snapshot ${JSON.stringify(snapshotName)} has no memory`, {
      hint: 'Clone the snapshot, or take snapshots with memory.',
      details: { snapshot: snapshot.id },
    });
  }
  const memory = await requireMemory(ctx.db, snapshot.memory_id);
  return { row: { ...row, disk_size_gb: snapshot.disk_size_gb }, memory };
}

/** Stores the children while the memory is sure to stay; from then on they hold it. */
async function insertChildren(
  ctx: MachinesContext,
  source: { row: BoxRow; memory: MemoryRow },
  wanted: readonly Wanted[],
): Promise<Child[]> {
  // What cannot go on here fails before anything is made.
  await compatibleGolden(ctx, source.memory);
  const volumes = await attachmentsOf(ctx.db, source.row);
  const children: Child[] = [];
  for (const { id, name } of wanted) {
    const facts = { ...source.row, name, snapshot_id: null };
    try {
      const secrets = await ctx.vault.copyOf(ctx.db, source.row.id, id);
      children.push({ row: await insertChild(ctx, source.memory, id, facts, volumes, { secrets }) });
    } catch (error) {
      children.push({ error: asError(error) });
    }
  }
  return children;
}

/** It is no failure of the call, and so not told as one: it is typed here. */
function asError(error: unknown): Error {
  return wrapHostError(error, 'the fork', 'internal');
}
