import { stat } from 'node:fs/promises';
import type { Consistency } from '../../api/index.js';
import { faultPoint } from '../../base/faults.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { type DiskSlot, type HeadSwitch, switchHeads } from '../../machine/index.js';
import {
  type BoxRow,
  changeHeads,
  type Database,
  insertLayers,
  type LayerRow,
  noteFinished,
  requireLayer,
  sealLayer,
} from '../../store/index.js';
import { headColumn, slots } from '../layers/disk-layers.js';
import { emptyHeadBytes } from '../layers/layer-files.js';
import type { MachinesContext } from '../machines/context.js';
import { withoutLimits } from '../machines/disk-limits.js';
import { requireRoom } from '../machines/disk-room.js';
import { needsReplay } from '../machines/journal.js';
import type { LiveBox } from '../machines/live.js';
import { sealUnderHeads } from '../machines/parent.js';
import { type Heads, keepSwitch, reconcileHeads, undoSwitch } from '../machines/reconcile.js';
import { stopBox } from '../machines/stop.js';

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
  ctx: MachinesContext,
  row: BoxRow,
  options: QuiesceOptions = defaultQuiesce,
): Promise<CapturedDisks> {
  await ctx.flattener.makeRoom(row);
  const live = ctx.live.get(row.id);
  if (!live) return await captureAtRest(ctx, row);
  requireRoom(live);
  const current = await reconcileHeads(ctx, live, row);
  const frozen = options.quiesce ? await freeze(ctx, live, row, options) : 'not-asked';
  if (frozen === 'failed') {
    await stopBox(ctx, current);
    return await captureAtRest(ctx, current);
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

async function freeze(
  ctx: MachinesContext,
  live: LiveBox,
  row: BoxRow,
  options: QuiesceOptions,
): Promise<'frozen' | 'failed'> {
  try {
    const { quiesceTimeoutMs: timeoutMs } = options;
    await withoutLimits(ctx, live, row, () => live.agent.system.freeze({ timeoutMs }));
    faultPoint('guest.freeze:after');
    return 'frozen';
  } catch (error) {
    requireRoom(live);
    if (options.stopOnQuiesceFail) return 'failed';
    throw new CryoboxError('timeout', `the guest's file systems could not be frozen: ${messageOf(error)}`, {
      cause: error,
      hint: 'Raise quiesceTimeoutMs, set stopOnQuiesceFail, or take the snapshot with quiesce off.',
    });
  }
}

async function captureAtRest(ctx: MachinesContext, row: BoxRow): Promise<CapturedDisks> {
  const consistency = (await needsReplay(ctx, row.disk_head)) ? 'crash' : 'clean';
  const changes = await prepareSwitches(ctx, row);
  return await synced(captured(ctx, row, changes, { runs: false, consistency, guestPauseMs: 0 }));
}

/** Makes captured disks durable; when that fails nothing is left of them. */
async function synced(disks: CapturedDisks): Promise<CapturedDisks> {
  try {
    await disks.sync();
    return disks;
  } catch (error) {
    await disks.discard();
    throw error;
  }
}

async function captureRunning(
  ctx: MachinesContext,
  row: BoxRow,
  live: LiveBox,
  consistency: Consistency,
): Promise<CapturedDisks> {
  const started = performance.now();
  // `stop` waits for what is under way and writes all caches: afterwards the files tell whether anything is in them.
  await live.machine.halt();
  let disks: CapturedDisks;
  try {
    disks = await captureHalted(ctx, row, live);
  } catch (error) {
    await live.machine.run();
    throw error;
  }
  try {
    await live.machine.run();
  } catch (error) {
    await disks.discard();
    throw error;
  }
  return await synced({ ...disks, consistency, guestPauseMs: performance.now() - started });
}

/**
 * Captures the disks of a running box whose machine stands still already, and leaves it so. The caller makes them
 * durable with `sync`. Throws `machine_failed`, `disk_full`.
 */
export async function captureHalted(
  ctx: MachinesContext,
  row: BoxRow,
  live: LiveBox,
): Promise<CapturedDisks> {
  const changes = await prepareSwitches(ctx, row);
  await switchMachine(ctx, live, changes);
  return captured(ctx, row, changes, { runs: true, consistency: 'crash', guestPauseMs: 0 });
}

/** Makes a machine that stands still write the new heads. When that fails they are kept as far as it does. */
async function switchMachine(
  ctx: MachinesContext,
  live: LiveBox,
  changes: readonly SlotChange[],
): Promise<void> {
  try {
    const heads: HeadSwitch[] = [];
    for (const { slot, old, head } of changes) {
      if (!head) continue;
      await live.machine.place({ path: ctx.layers.path(head.id), name: head.id, writable: true });
      const node = (id: string) => ({ id, format: 'qcow2' }) as const;
      heads.push({ slot, from: node(old.id), to: node(head.id), below: old.parent_id });
    }
    await switchHeads(live.machine.qmp, heads);
  } catch (error) {
    await undoSwitch(ctx, live, newHeadsOf(changes));
    throw error;
  }
}

function newHeadsOf(changes: readonly SlotChange[]): Heads {
  return Object.fromEntries(changes.flatMap(({ slot, head }) => (head ? [[slot, head.id]] : [])));
}

async function prepareSwitches(ctx: MachinesContext, row: BoxRow): Promise<SlotChange[]> {
  const changes: SlotChange[] = [];
  try {
    for (const slot of slots) changes.push(await prepareSwitch(ctx, row, slot));
    return changes;
  } catch (error) {
    await dropHeads(ctx, changes);
    throw error;
  }
}

async function dropHeads(ctx: MachinesContext, changes: readonly SlotChange[]): Promise<void> {
  for (const { head } of changes) if (head) await ctx.layers.remove(head.id);
}

async function prepareSwitch(ctx: MachinesContext, row: BoxRow, slot: DiskSlot): Promise<SlotChange> {
  const old = await requireLayer(ctx.db, row[headColumn[slot]]);
  const { size } = await stat(ctx.layers.path(old.id));
  if (size <= emptyHeadBytes && old.parent_id !== null) return { slot, old };
  return { slot, old, head: await ctx.layers.newHead(old) };
}

interface CaptureFacts extends Pick<CapturedDisks, 'consistency' | 'guestPauseMs'> {
  /** Whether a machine writes the new heads. */
  readonly runs: boolean;
}

function captured(
  ctx: MachinesContext,
  row: BoxRow,
  changes: readonly SlotChange[],
  { runs, consistency, guestPauseMs }: CaptureFacts,
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
  const headBytes = runs ? emptyHeadBytes : 0;
  const switched = changes.flatMap(({ old, head }) =>
    head ? [{ old, head: { ...head, size_bytes: headBytes } }] : [],
  );
  const newHeads = newHeadsOf(changes);
  return {
    guest: layerOf('guest'),
    disk: layerOf('disk'),
    consistency,
    guestPauseMs,
    // Without a machine the new head is empty, and can be made again.
    sync: () => ctx.layers.sync(switched.flatMap(({ old, head }) => (runs ? [old.id, head.id] : [old.id]))),
    apply: async (tx) => {
      if (switched.length === 0) return;
      await insertLayers(
        tx,
        switched.map(({ head }) => head),
      );
      for (const { old } of switched) await sealLayer(tx, old.id, await ctx.layers.allocatedBytes(old.id));
      await changeHeads(tx, row.id, { guest_head: headOf('guest'), disk_head: headOf('disk') });
    },
    seal: async () => {
      const live = ctx.live.get(row.id);
      if (live) await sealUnderHeads(ctx, live, newHeads);
      if (switched.length === 0) return;
      const sealed = switched.map(({ old }) => old.id);
      for (const id of sealed) await ctx.layers.seal(id);
      await noteFinished(ctx.db, 'layer', sealed);
      ctx.hasher.soon();
    },
    discard: async () => {
      // Its machine may have ended since: what it wrote until then is in the new heads.
      if (runs) return await keepSwitch(ctx, row.id, newHeads);
      for (const { head } of switched) await ctx.layers.remove(head.id);
    },
  };
}
