import { stat } from 'node:fs/promises';
import type { Consistency } from '../../api/index.js';
import { faultPoint } from '../../base/faults.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { type DiskSlot, type HeadSwitch, switchHeads } from '../../machine/index.js';
import { type BoxRow, type Database, holdOnly, type LayerRow } from '../../store/index.js';
import { stopBox } from '../boxes/stop.js';
import type { EngineContext } from '../context.js';
import { emptyHeadBytes } from '../layer-files.js';
import type { LiveBox } from '../live.js';
import { headColumn, requireLayer, slots } from './layers.js';
import { sealUnderHeads } from './parent.js';
import { keepSwitch, reconcileHeads } from './reconcile.js';

/** How the disks of a running box are brought to rest. */
export interface QuiesceOptions {
  readonly quiesce: boolean;
  readonly quiesceTimeoutMs: number;
  readonly stopOnQuiesceFail: boolean;
}

/** What is done when nothing else is asked for. */
export const defaultQuiesce: QuiesceOptions = {
  quiesce: true,
  quiesceTimeoutMs: 30_000,
  stopOnQuiesceFail: true,
};

/** Both disks of a box as they were at one moment: layers that no longer change. Not committed yet. */
export interface CapturedDisks {
  readonly guest: string;
  readonly disk: string;
  readonly consistency: Consistency;
  readonly guestPauseMs: number;
  /** Makes the files durable; before the commit. */
  sync(): Promise<void>;
  /** Makes it true: to be run in the transaction that points at the layers. */
  apply(tx: Database): Promise<void>;
  /** Makes the layers unchangeable for machines; after the commit. */
  seal(): Promise<void>;
  /** Removes what was made, when there is no commit. */
  discard(): Promise<void>;
}

interface SlotChange {
  readonly slot: DiskSlot;
  readonly old: LayerRow;
  /** Absent: nothing was ever written to the old head, so its parent is the state. */
  readonly head?: LayerRow;
}

/**
 * Captures both disks of a box: what was the head becomes a layer, and a new empty head stands on it. A running box
 * goes on; it stands still for the switch only. Throws `machine_failed`, `disk_full`, `timeout` when the guest cannot be
 * brought to rest and `stopOnQuiesceFail` is off.
 */
export async function captureDisks(
  ctx: EngineContext,
  row: BoxRow,
  options: QuiesceOptions = defaultQuiesce,
): Promise<CapturedDisks> {
  await ctx.flattener.makeRoom(row);
  const live = ctx.live.get(row.id);
  if (!live) return await captureAtRest(ctx, row);
  const current = await reconcileHeads(ctx, live, row);
  const frozen = options.quiesce ? await freeze(live, options) : 'not-asked';
  if (frozen === 'failed') {
    await stopBox(ctx, row);
    return await captureAtRest(ctx, row);
  }
  try {
    return await captureRunning(ctx, current, live, frozen === 'frozen' ? 'frozen' : 'crash');
  } finally {
    if (frozen === 'frozen') {
      faultPoint('guest.thaw:before');
      await live.agent.system.thaw();
    }
  }
}

async function freeze(live: LiveBox, options: QuiesceOptions): Promise<'frozen' | 'failed'> {
  try {
    await live.agent.system.freeze({ timeoutMs: options.quiesceTimeoutMs });
    faultPoint('guest.freeze:after');
    return 'frozen';
  } catch (error) {
    if (options.stopOnQuiesceFail) return 'failed';
    throw new CryoboxError('timeout', `the guest's file systems could not be frozen: ${messageOf(error)}`, {
      cause: error,
      hint: 'Raise quiesceTimeoutMs, set stopOnQuiesceFail, or take the snapshot with quiesce off.',
    });
  }
}

async function captureAtRest(ctx: EngineContext, row: BoxRow): Promise<CapturedDisks> {
  const changes = await prepareSwitches(ctx, row);
  const disks = captured(ctx, row, changes, 'clean', 0);
  try {
    await disks.sync();
  } catch (error) {
    await disks.discard();
    throw error;
  }
  return disks;
}

async function captureRunning(
  ctx: EngineContext,
  row: BoxRow,
  live: LiveBox,
  consistency: Consistency,
): Promise<CapturedDisks> {
  const started = performance.now();
  // `stop` waits for what is under way and writes all caches: afterwards the files tell whether anything is in them.
  await live.machine.halt();
  let changes: SlotChange[] = [];
  let guestPauseMs: number;
  try {
    changes = await prepareSwitches(ctx, row);
    await switchMachine(ctx, live, changes);
  } catch (error) {
    await dropHeads(ctx, changes);
    throw error;
  } finally {
    await live.machine.run();
    guestPauseMs = performance.now() - started;
  }
  const disks = captured(ctx, row, changes, consistency, guestPauseMs);
  await disks.sync();
  return disks;
}

/**
 * Captures the disks of a running box whose machine stands still already, and leaves it so. The caller makes them
 * durable with `sync`. Throws `machine_failed`, `disk_full`.
 */
export async function captureHalted(ctx: EngineContext, row: BoxRow, live: LiveBox): Promise<CapturedDisks> {
  const changes = await prepareSwitches(ctx, row);
  try {
    await switchMachine(ctx, live, changes);
  } catch (error) {
    await dropHeads(ctx, changes);
    throw error;
  }
  return captured(ctx, row, changes, 'crash', 0);
}

async function switchMachine(
  ctx: EngineContext,
  live: LiveBox,
  changes: readonly SlotChange[],
): Promise<void> {
  const heads: HeadSwitch[] = [];
  for (const { slot, old, head } of changes) {
    if (!head) continue;
    await live.machine.place({ path: ctx.layers.path(head.id), name: head.id, writable: true });
    const node = (id: string) => ({ id, format: 'qcow2' }) as const;
    heads.push({ slot, from: node(old.id), to: node(head.id), below: old.parent_id });
  }
  await switchHeads(live.machine.qmp, heads);
}

async function prepareSwitches(ctx: EngineContext, row: BoxRow): Promise<SlotChange[]> {
  const changes: SlotChange[] = [];
  try {
    for (const slot of slots) changes.push(await prepareSwitch(ctx, row, slot));
    return changes;
  } catch (error) {
    await dropHeads(ctx, changes);
    throw error;
  }
}

async function dropHeads(ctx: EngineContext, changes: readonly SlotChange[]): Promise<void> {
  for (const { head } of changes) if (head) await ctx.layers.remove(head.id);
}

async function prepareSwitch(ctx: EngineContext, row: BoxRow, slot: DiskSlot): Promise<SlotChange> {
  const old = await requireLayer(ctx.db, row[headColumn[slot]]);
  const { size } = await stat(ctx.layers.path(old.id));
  if (size <= emptyHeadBytes && old.parent_id !== null) return { slot, old };
  return { slot, old, head: await ctx.layers.newHead(old) };
}

function captured(
  ctx: EngineContext,
  row: BoxRow,
  changes: readonly SlotChange[],
  consistency: Consistency,
  guestPauseMs: number,
): CapturedDisks {
  const layerOf = (slot: DiskSlot): string => {
    const change = changes.find((candidate) => candidate.slot === slot);
    return (change?.head ? change.old.id : change?.old.parent_id) ?? '';
  };
  const headOf = (slot: DiskSlot): string => {
    const change = changes.find((candidate) => candidate.slot === slot);
    return change?.head?.id ?? change?.old.id ?? '';
  };
  // What a machine writes already is more than an empty file that could be made again.
  const isLive = ctx.live.get(row.id) !== undefined;
  const headBytes = isLive ? emptyHeadBytes : 0;
  const switched = changes.flatMap(({ old, head }) =>
    head ? [{ old, head: { ...head, size_bytes: headBytes } }] : [],
  );
  const switchedHeads = changes.flatMap(({ slot, head }) => (head ? [[slot, head.id] as const] : []));
  return {
    guest: layerOf('guest'),
    disk: layerOf('disk'),
    consistency,
    guestPauseMs,
    // Without a machine the new head is empty, and can be made again.
    sync: () => ctx.layers.sync(switched.flatMap(({ old, head }) => (isLive ? [old.id, head.id] : [old.id]))),
    apply: async (tx) => {
      if (switched.length === 0) return;
      await tx
        .insertInto('layers')
        .values(switched.map(({ head }) => head))
        .execute();
      for (const { old } of switched) {
        const size_bytes = await ctx.layers.allocatedBytes(old.id);
        await tx
          .updateTable('layers')
          .set({ state: 'sealed', size_bytes })
          .where('id', '=', old.id)
          .execute();
      }
      const heads = { guest_head: headOf('guest'), disk_head: headOf('disk') };
      await tx.updateTable('boxes').set(heads).where('id', '=', row.id).execute();
      await holdOnly(tx, `box:${row.id}`, [heads.guest_head, heads.disk_head]);
    },
    seal: async () => {
      const live = ctx.live.get(row.id);
      if (live) await sealUnderHeads(ctx, live, Object.fromEntries(switchedHeads));
      for (const { old } of switched) await ctx.layers.seal(old.id);
      if (switched.length > 0) ctx.hasher.soon();
    },
    discard: async () => {
      const live = ctx.live.get(row.id);
      if (live) return await keepSwitch(ctx, live);
      for (const { head } of switched) await ctx.layers.remove(head.id);
    },
  };
}
