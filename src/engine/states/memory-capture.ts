import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import type { LayerMap } from '../../formats/pages/index.js';
import {
  type BoxRow,
  type Database,
  findMemory,
  insertLayers,
  insertMemory,
  type LayerRow,
  type MemoryRow,
} from '../../store/index.js';
import { requireMemory } from '../layers/memories.js';
import { openMemory } from '../layers/memory-layers.js';
import type { MachinesContext } from '../machines/context.js';
import { requireRoom } from '../machines/disk-room.js';
import { machineFacts } from '../machines/guard.js';
import type { LiveBox } from '../machines/live.js';
import { reconcileHeads } from '../machines/reconcile.js';
import { takeStamps, type VolumeStamp } from '../volumes/stamps.js';
import type { CapturedDisks } from './disk-capture.js';
import { type NewLayers, type Taken, takeMachine } from './moment.js';
import { Standstill } from './standstill.js';

/** A machine as it was at one moment: layers that no longer change. Durable, and not committed yet. */
export interface CapturedMachine {
  readonly memory: MemoryRow;
  readonly disks: CapturedDisks;
  /** How long the guest stood still; 0 when it still does. */
  readonly guestPauseMs: number;
  /** Makes it true: to be run in the transaction that refers to the memory. */
  apply(tx: Database): Promise<void>;
  /** After the commit. */
  seal(): Promise<void>;
  /** Removes what was made, when there is no commit. */
  discard(): Promise<void>;
}

/**
 * Captures memory, devices and disks of a running box in one moment. `goOn`: the box goes on at once; otherwise it
 * stands still when this returns. When it fails the box goes on and nothing is published. Throws `machine_failed`,
 * `disk_full`, `storage_error`, `timeout` when the guest does not answer.
 */
export async function captureMachine(
  ctx: MachinesContext,
  row: BoxRow,
  live: LiveBox,
  options: { readonly goOn: boolean },
): Promise<CapturedMachine> {
  requireRoom(live);
  const current = await reconcileHeads(ctx, live, row);
  const facts = await machineFacts(ctx, live);
  const origin = await originOf(ctx, live);
  const parent = await openMemory(ctx, origin.layerId);
  const layers = newLayers(ctx);
  const still = await Standstill.begin(live).catch(async (error: unknown) => {
    await parent.close();
    throw error;
  });
  let taken: Taken;
  let volumes: VolumeStamp[];
  try {
    volumes = await takeStamps(ctx, current);
    const goOn = options.goOn ? () => still.end() : undefined;
    taken = await takeMachine(ctx, { row: current, live, parent, layers, goOn });
  } catch (error) {
    await removeFiles(ctx, layers);
    await still.end();
    throw error;
  } finally {
    still.letGo();
    await parent.close();
  }
  const { map, disks } = taken;
  const discard = async (): Promise<void> => {
    await disks.discard();
    await removeFiles(ctx, layers);
  };
  const sealed = await sealLayers(ctx, layers, map).catch(async (error: unknown) => {
    await discard();
    await still.end();
    throw error;
  });
  const memory: MemoryRow = {
    id: newId('mem'),
    created_at: Date.now(),
    layer_id: layers.pages.id,
    state_layer: layers.state.id,
    guest_layer: disks.guest,
    disk_layer: disks.disk,
    working_set: null,
    golden_key: current.golden_key,
    cpus: row.cpus,
    memory_mib: row.memory_mib,
    ...facts,
    volumes: JSON.stringify(volumes),
    run: live.run,
  };
  return {
    memory,
    disks,
    guestPauseMs: still.durationMs,
    apply: async (tx) => {
      await disks.apply(tx);
      await insertLayers(tx, sealed);
      const working_set = await workingSetOf(tx, origin.memoryId);
      await insertMemory(tx, { ...memory, working_set }, map.layers);
    },
    seal: () => disks.seal(),
    discard,
  };
}

/** What the guest needed first when it last came back is the best guess of what it will need next. */
async function workingSetOf(tx: Database, memoryId: string | null): Promise<string | null> {
  if (memoryId === null) return null;
  const memory = await findMemory(tx, memoryId);
  return memory?.working_set ?? null;
}

/** The memory a machine came from, if it is one, and the layer that its own is compared with. */
async function originOf(
  ctx: MachinesContext,
  { memory, boxId }: LiveBox,
): Promise<{ memoryId: string | null; layerId: string }> {
  const { memoryId, baseLayer } = memory;
  if (memoryId !== null) return { memoryId, layerId: (await requireMemory(ctx.db, memoryId)).layer_id };
  if (baseLayer !== null) return { memoryId, layerId: baseLayer };
  throw new CryoboxError('internal', `nobody knows what the machine of box ${boxId} was restored from`);
}

function newLayers(ctx: MachinesContext): NewLayers {
  const facts = { parent_id: null, state: 'sealed', virtual_bytes: 0 };
  const map = ctx.layers.newRow({ ...facts, kind: 'memory-map' });
  const pages = ctx.layers.newRow({ ...facts, kind: 'memory-packed', parent_id: map.id });
  return { map, pages, state: ctx.layers.newRow({ ...facts, kind: 'device-state' }) };
}

async function sealLayers(ctx: MachinesContext, layers: NewLayers, map: LayerMap): Promise<LayerRow[]> {
  const virtual_bytes = map.blocks[0]?.sizeBytes ?? 0;
  const pages = { ...layers.pages, kind: `memory-${map.form}`, virtual_bytes };
  const sealed: LayerRow[] = [];
  // The map first: the row of the pages refers to it.
  for (const row of [layers.map, pages, layers.state]) {
    sealed.push({ ...row, size_bytes: await ctx.layers.seal(row.id) });
  }
  return sealed;
}

async function removeFiles(ctx: MachinesContext, { map, pages, state }: NewLayers): Promise<void> {
  for (const { id } of [map, pages, state]) await ctx.layers.remove(id);
}
