import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory, syncFile } from '../../base/files.js';
import { newId } from '../../base/ids.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { adoptGolden, readSavedMachine } from '../../formats/pages/index.js';
import { AgentClient } from '../../guest/index.js';
import {
  type Accelerator,
  attachDisk,
  Machine,
  type MachineFile,
  type MachineShape,
  machineFiles,
  newMachineUser,
  type QemuBinary,
  saveDeviceState,
} from '../../machine/index.js';
import type { LayerRow } from '../../store/index.js';
import type { HomePaths } from '../core/home.js';
import type { LayerFiles } from '../layers/layer-files.js';
import type { GuestAssets } from './assets.js';
import { buildGuestDisk } from './guest-disk.js';

/** Layers of a golden machine, written and durable, not yet in the database. */
export interface GoldenFiles {
  /** The memory's pages; its parent is the map. */
  readonly ram: LayerRow;
  readonly map: LayerRow;
  readonly state: LayerRow;
  readonly guest: LayerRow;
  readonly machineType: string;
  readonly bootMs: number;
}

interface BuildOptions {
  readonly paths: HomePaths;
  readonly layers: LayerFiles;
  readonly qemu: QemuBinary;
  readonly assets: GuestAssets;
  readonly shape: MachineShape;
  readonly accelerator: Accelerator;
  readonly deadlineMs: number;
}

/** Names under which the machine finds what it boots. */
const bootFiles = { kernelPath: 'kernel', initramfsPath: 'initramfs' } as const;

/** Id of the memory backend, which names the machine's RAM in a stream. */
const ramBlock = 'mem';

/** Lines of the console that an error carries. */
const consoleLines = 20;

/**
 * Boots a machine to the point where its agent waits for a box's disk, and freezes it there.
 * Throws `machine_failed` with the console's last lines; nothing is left then.
 */
export async function buildGolden(options: BuildOptions): Promise<GoldenFiles> {
  const { layers, shape } = options;
  const map = layers.newRow({ kind: 'memory-map', parent_id: null, state: 'sealed', virtual_bytes: 0 });
  const ram = layers.newRow({
    kind: 'memory-flat',
    parent_id: map.id,
    state: 'sealed',
    virtual_bytes: shape.memoryMiB * 1024 * 1024,
  });
  const state = layers.newRow({ kind: 'device-state', parent_id: null, state: 'sealed', virtual_bytes: 0 });
  const guest = layers.newRow({ kind: 'raw', parent_id: null, state: 'sealed', virtual_bytes: 0 });
  try {
    await createRamFile(layers.path(ram.id), ram.virtual_bytes);
    const virtualBytes = await buildGuestDisk({
      path: layers.path(guest.id),
      kernelDirectory: options.assets.kernelDirectory,
      scratch: options.paths.scratch,
    });
    const frozen = await bootAndFreeze(options, ram, { ...guest, virtual_bytes: virtualBytes });
    await writeFile(layers.path(state.id), frozen.state);
    const saved = await readSavedMachine([frozen.state], ramBlock);
    const paths = { map: layers.path(map.id), pages: layers.path(ram.id) };
    await adoptGolden({ paths, layerId: ram.id, saved });
    const seal = async (row: LayerRow): Promise<LayerRow> => {
      await syncFile(layers.path(row.id));
      return { ...row, size_bytes: await layers.seal(row.id) };
    };
    const sealed = {
      ram: await seal(ram),
      map: await seal(map),
      state: await seal(state),
      guest: await seal(guest),
    };
    await syncDirectory(options.paths.layers);
    return {
      ...sealed,
      guest: { ...sealed.guest, virtual_bytes: virtualBytes },
      machineType: saved.machineType,
      bootMs: frozen.bootMs,
    };
  } catch (error) {
    for (const row of [ram, map, state, guest]) await layers.remove(row.id);
    throw error;
  }
}

async function createRamFile(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.truncate(bytes);
  } finally {
    await file.close();
  }
}

async function bootAndFreeze(
  options: BuildOptions,
  ram: LayerRow,
  guest: LayerRow,
): Promise<{ state: Buffer; bootMs: number }> {
  const { paths, layers, qemu, assets, shape, accelerator, deadlineMs } = options;
  const started = performance.now();
  const head = await layers.newHead(guest);
  const user = await newMachineUser(accelerator);
  const readable = (path: string, name: string): MachineFile => ({ path, name, writable: false });
  const machine = await Machine.launch({
    directory: join(paths.machines, newId('mch')),
    spec: { shape, accelerator, ram: 'shared-file', card: 'closed', boot: bootFiles },
    qemuPath: qemu.path,
    user,
    files: [
      { path: layers.path(ram.id), name: machineFiles.ram, writable: true },
      readable(assets.guardPath, machineFiles.guard),
      readable(assets.kernelPath, bootFiles.kernelPath),
      readable(assets.initramfsPath, bootFiles.initramfsPath),
      readable(layers.path(guest.id), guest.id),
      { path: layers.path(head.id), name: head.id, writable: true },
    ],
  });
  try {
    await attachDisk(machine.qmp, 'guest', [
      { id: guest.id, format: 'raw' },
      { id: head.id, format: 'qcow2' },
    ]);
    await machine.run();
    await waitForAgent(machine, deadlineMs);
    const bootMs = Math.round(performance.now() - started);
    await machine.halt();
    return { state: await saveDeviceState(machine.qmp, machine.directory), bootMs };
  } finally {
    await machine.kill();
    await layers.remove(head.id);
  }
}

async function waitForAgent(machine: Machine, deadlineMs: number): Promise<void> {
  const died = machine.exited.then(() => {
    throw new CryoboxError('machine_failed', 'the machine ended while it booted');
  });
  try {
    const agent = await Promise.race([
      AgentClient.connect({ socketPath: machine.agentSocket, timeoutMs: deadlineMs }),
      died,
    ]);
    agent.close();
  } catch (error) {
    const console = machine.console.text().trimEnd().split('\n').slice(-consoleLines).join('\n');
    throw new CryoboxError(
      'machine_failed',
      `a golden machine did not boot: ${messageOf(error)}\n${console}`,
      {
        cause: error,
      },
    );
  }
}
