import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { syncDirectory } from '../../base/files.js';
import { newId } from '../../base/ids.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { saveDevices, streamState } from '../../machine/index.js';
import {
  canReadProcess,
  captureProcess,
  captureStream,
  type LayerMap,
  type LayerPaths,
  type MemoryImage,
} from '../../memory/index.js';
import { encodeDeviceState, parseDeviceState } from '../../migration/index.js';
import { type BoxRow, type Database, hold, type LayerRow, type MemoryRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { type CapturedDisks, captureHalted } from '../disks/capture.js';
import { reconcileHeads } from '../disks/reconcile.js';
import type { LiveBox } from '../live.js';
import { machineFacts } from './guard.js';
import { openMemory } from './layers.js';
import { requireMemory } from './rows.js';

const bytesPerMiB = 1024 ** 2;

/** A busy guest answers late, but it answers. */
const holdTimeoutMs = 30_000;

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

/** New layers of memory and devices, as rows that are not stored yet. */
interface NewLayers {
  readonly map: LayerRow;
  readonly pages: LayerRow;
  readonly state: LayerRow;
}

/**
 * Captures memory, devices and disks of a running box in one moment. `goOn`: the box goes on at once; otherwise it
 * stands still when this returns. When it fails the box goes on and nothing is published. Throws `machine_failed`,
 * `disk_full`, `storage_error`, `timeout` when the guest does not answer.
 */
export async function captureMachine(
  ctx: EngineContext,
  row: BoxRow,
  live: LiveBox,
  options: { readonly goOn: boolean },
): Promise<CapturedMachine> {
  const current = await reconcileHeads(ctx, live, row);
  const facts = await machineFacts(ctx, live);
  const parent = await openMemory(ctx, await parentLayer(ctx, live));
  const layers = newLayers(ctx);
  // Bytes that reach the guest's ports while it stands still would change memory that is being read.
  const letGo = await live.agent.hold(holdTimeoutMs).catch(async (error: unknown) => {
    await parent.close();
    throw error;
  });
  const started = performance.now();
  let captured: { map: LayerMap; disks: CapturedDisks } | undefined;
  try {
    await live.machine.halt();
    captured = await captureStopped(ctx, { row: current, live, parent, layers });
  } catch (error) {
    await removeFiles(ctx, layers);
    throw error;
  } finally {
    if (options.goOn || !captured) await live.machine.run();
    letGo();
    await parent.close();
  }
  const guestPauseMs = options.goOn ? performance.now() - started : 0;
  const sealed = await sealLayers(ctx, layers, captured.map);
  const { map, disks } = captured;
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
    run: live.run,
  };
  return {
    memory,
    disks,
    guestPauseMs,
    apply: async (tx) => {
      await disks.apply(tx);
      await tx
        .insertInto('layers')
        .values([...sealed])
        .execute();
      await insertMemory(tx, memory, map.layers);
    },
    seal: () => disks.seal(),
    discard: async () => {
      await disks.discard();
      await removeFiles(ctx, layers);
    },
  };
}

async function insertMemory(tx: Database, memory: MemoryRow, layerIds: readonly string[]): Promise<void> {
  await tx.insertInto('memories').values(memory).execute();
  const { state_layer, guest_layer, disk_layer } = memory;
  await hold(tx, `memory:${memory.id}`, [...new Set([...layerIds, state_layer, guest_layer, disk_layer])]);
}

/** The layer that a machine's memory is compared with. */
async function parentLayer(ctx: EngineContext, { memory, boxId }: LiveBox): Promise<string> {
  if (memory.memoryId !== null) return (await requireMemory(ctx.db, memory.memoryId)).layer_id;
  if (memory.baseLayer !== null) return memory.baseLayer;
  throw new CryoboxError('internal', `nobody knows what the machine of box ${boxId} was restored from`);
}

function newLayers(ctx: EngineContext): NewLayers {
  const facts = { parent_id: null, state: 'sealed', virtual_bytes: 0 };
  const map = ctx.layers.newRow({ ...facts, kind: 'memory-map' });
  const pages = ctx.layers.newRow({ ...facts, kind: 'memory-packed', parent_id: map.id });
  return { map, pages, state: ctx.layers.newRow({ ...facts, kind: 'device-state' }) };
}

interface Stopped {
  readonly row: BoxRow;
  readonly live: LiveBox;
  readonly parent: MemoryImage;
  readonly layers: NewLayers;
}

/** Everything that is done while the guest stands still; durable when it returns. */
async function captureStopped(
  ctx: EngineContext,
  stopped: Stopped,
): Promise<{ map: LayerMap; disks: CapturedDisks }> {
  const { row, live, layers } = stopped;
  const paths = { map: ctx.layers.path(layers.map.id), pages: ctx.layers.path(layers.pages.id) };
  if (!canReadProcess(live.machine.process.pid)) return await captureByStream(ctx, stopped, paths);
  // Devices first: saving them may still write what they hold of the disks.
  const devices = await saveDevices(live.machine.qmp, live.machine.directory);
  const [map, disks] = await settled(
    [
      captureProcess({
        pid: live.machine.process.pid,
        mapping: {
          ...(live.memory.baseLayer === null ? {} : { file: ctx.layers.path(live.memory.baseLayer) }),
          sizeBytes: row.memory_mib * bytesPerMiB,
        },
        parent: stopped.parent,
        paths,
        layerId: layers.pages.id,
      }).then((result) => result.map),
      captureHalted(ctx, row, live),
      writeState(ctx, layers.state, parseDeviceState(devices)),
    ],
    ([, taken]) => taken?.discard(),
  );
  return { map, disks };
}

/** The way for a process that may not be read: QEMU writes all of its memory. */
async function captureByStream(
  ctx: EngineContext,
  { row, live, layers, parent }: Stopped,
  paths: LayerPaths,
): Promise<{ map: LayerMap; disks: CapturedDisks }> {
  const { qmp, directory } = live.machine;
  const { map, deviceSections } = await streamState(qmp, directory, (stream) =>
    captureStream({ stream, parent, paths, layerId: layers.pages.id }),
  );
  await writeState(ctx, layers.state, deviceSections);
  return { map, disks: await captureHalted(ctx, row, live) };
}

/** Waits for all of them also when one fails, so that nothing is written after this has returned. */
async function settled<A, B, C>(
  tasks: readonly [Promise<A>, Promise<B>, Promise<C>],
  undo: (done: [A | undefined, B | undefined]) => Promise<void> | undefined,
): Promise<[A, B]> {
  const [a, b, c] = await Promise.allSettled(tasks);
  if (a.status === 'fulfilled' && b.status === 'fulfilled' && c.status === 'fulfilled')
    return [a.value, b.value];
  await undo([
    a.status === 'fulfilled' ? a.value : undefined,
    b.status === 'fulfilled' ? b.value : undefined,
  ]);
  for (const result of [a, b, c]) if (result.status === 'rejected') throw result.reason;
  throw new CryoboxError('internal', 'a capture failed without a reason');
}

async function writeState(ctx: EngineContext, layer: LayerRow, sections: Buffer): Promise<void> {
  const content = encodeDeviceState(sections);
  layer.sha256 = createHash('sha256').update(content).digest('hex');
  try {
    const file = await open(ctx.layers.path(layer.id), 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await syncDirectory(ctx.paths.layers);
  } catch (error) {
    throw wrapHostError(error, 'writing the state of a machine');
  }
}

async function sealLayers(ctx: EngineContext, layers: NewLayers, map: LayerMap): Promise<LayerRow[]> {
  const virtual_bytes = map.blocks[0]?.sizeBytes ?? 0;
  const pages = { ...layers.pages, kind: `memory-${map.form}`, virtual_bytes };
  const sealed: LayerRow[] = [];
  // The map first: the row of the pages refers to it.
  for (const row of [layers.map, pages, layers.state]) {
    sealed.push({ ...row, size_bytes: await ctx.layers.seal(row.id) });
  }
  return sealed;
}

async function removeFiles(ctx: EngineContext, { map, pages, state }: NewLayers): Promise<void> {
  for (const { id } of [map, pages, state]) await ctx.layers.remove(id);
}
