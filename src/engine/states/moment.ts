import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { syncDirectory } from '../../base/files.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import type { LayerMap, LayerPaths, MemoryImage } from '../../formats/pages/index.js';
import { encodeDeviceState, parseDeviceState } from '../../formats/qemu-stream/index.js';
import { saveDevices, streamState } from '../../machine/index.js';
import { canReadProcess, captureProcess, captureStream } from '../../memory/index.js';
import type { BoxRow, LayerRow } from '../../store/index.js';
import type { MachinesContext } from '../machines/context.js';
import type { LiveBox } from '../machines/live.js';
import { type CapturedDisks, captureHalted } from './disk-capture.js';

const bytesPerMiB = 1024 ** 2;

/** New layers of memory and devices, as rows that are not stored yet. */
export interface NewLayers {
  readonly map: LayerRow;
  readonly pages: LayerRow;
  readonly state: LayerRow;
}

/** A machine that stands still, and what is to be made of it. */
export interface Stopped {
  readonly row: BoxRow;
  readonly live: LiveBox;
  readonly parent: MemoryImage;
  readonly layers: NewLayers;
  /** Called when the machine is no longer needed. */
  readonly goOn: (() => Promise<void>) | undefined;
}

/** A machine's memory and disks, durable. */
export interface Taken {
  readonly map: LayerMap;
  readonly disks: CapturedDisks;
}

/**
 * Takes memory, devices and disks in one moment, and makes them durable while the machine goes on. Leaves no work behind
 * when it fails; the new layers are removed by the caller. Throws `machine_failed`, `disk_full`, `storage_error`.
 */
export async function takeMachine(ctx: MachinesContext, stopped: Stopped): Promise<Taken> {
  const { live, layers } = stopped;
  const paths = { map: ctx.layers.path(layers.map.id), pages: ctx.layers.path(layers.pages.id) };
  const take = canReadProcess(live.machine.process.pid) ? readProcess : readStream;
  const { pages, disks, state } = await take(ctx, stopped, paths);
  const [map, switched, written] = await Promise.allSettled([pages, disks, state]);
  const [goneOn, synced] = await Promise.allSettled([
    stopped.goOn?.(),
    switched.status === 'fulfilled' ? switched.value.sync() : undefined,
  ]);
  if (map.status === 'fulfilled' && switched.status === 'fulfilled')
    if (written.status === 'fulfilled' && goneOn.status === 'fulfilled' && synced.status === 'fulfilled')
      return { map: map.value, disks: switched.value };
  if (switched.status === 'fulfilled') await switched.value.discard();
  for (const result of [map, switched, written, goneOn, synced])
    if (result.status === 'rejected') throw result.reason;
  throw new CryoboxError('internal', 'a capture failed without a reason');
}

/** What is taken of a machine at once, each under way. */
interface Moment {
  readonly pages: Promise<LayerMap>;
  readonly disks: Promise<CapturedDisks>;
  readonly state: Promise<void>;
}

/** The way for a process whose memory may be read. */
async function readProcess(
  ctx: MachinesContext,
  { row, live, parent, layers, goOn }: Stopped,
  paths: LayerPaths,
): Promise<Moment> {
  // Devices first: saving them may still write what they hold of the disks.
  const devices = await saveDevices(live.machine.qmp, live.machine.directory);
  const sections = parseDeviceState(devices);
  const disks = captureHalted(ctx, row, live);
  const pages = captureProcess({
    pid: live.machine.process.pid,
    mapping: {
      ...(live.memory.baseLayer === null ? {} : { file: ctx.layers.path(live.memory.baseLayer) }),
      sizeBytes: row.memory_mib * bytesPerMiB,
    },
    parent,
    paths,
    layerId: layers.pages.id,
    ...(goOn ? { onRead: () => disks.then(goOn) } : {}),
  });
  return {
    pages: pages.then(({ map }) => map),
    disks,
    state: writeState(ctx, layers.state, sections),
  };
}

/** The way for a process that may not be read: QEMU writes all of its memory. */
async function readStream(
  ctx: MachinesContext,
  { row, live, layers, parent }: Stopped,
  paths: LayerPaths,
): Promise<Moment> {
  const { qmp, directory } = live.machine;
  const { map, deviceSections } = await streamState(qmp, directory, (stream) =>
    captureStream({ stream, parent, paths, layerId: layers.pages.id }),
  );
  return {
    pages: Promise.resolve(map),
    disks: captureHalted(ctx, row, live),
    state: writeState(ctx, layers.state, deviceSections),
  };
}

async function writeState(ctx: MachinesContext, layer: LayerRow, sections: Buffer): Promise<void> {
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
