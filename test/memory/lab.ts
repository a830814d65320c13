import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adoptGolden, readSavedMachine, type SavedMachine } from '../../src/formats/pages/golden.js';
import type { LayerPaths } from '../../src/formats/pages/layer-files.js';
import type { LayerMap } from '../../src/formats/pages/layer-map.js';
import { localLayers } from '../../src/formats/pages/local-layer.js';
import { MemoryImage } from '../../src/formats/pages/memory-image.js';
import {
  planResume,
  type ResumePlan,
  type ResumeResult,
  writeResumeStream,
} from '../../src/formats/pages/resume.js';
import { parseDeviceState } from '../../src/formats/qemu-stream/device-state.js';
import { loadState, saveDeviceState } from '../../src/machine/state.js';
import { type CaptureOptions, type CaptureResult, captureProcess } from '../../src/memory/capture.js';
import { kernelPath, writeInitramfs } from '../support/mini-guest.js';
import { MiniMachine } from '../support/mini-machine.js';

/** A paused machine: its memory and its device sections. */
export interface Paused {
  readonly map: LayerMap;
  readonly deviceSections: Buffer;
}

/** A running machine and what it was restored from. */
export interface Running {
  readonly machine: MiniMachine;
  readonly image: MemoryImage;
  readonly plan: ResumePlan;
  readonly sent: ResumeResult;
}

/** A directory with layers, a golden machine and what a test does with them. */
export class Lab {
  readonly directory: string;
  readonly memoryMiB: number;
  readonly flats: LayerMap[] = [];
  readonly #machines = new Set<MiniMachine>();
  readonly #images: MemoryImage[] = [];
  #saved: SavedMachine | undefined;
  #next = 0;

  private constructor(directory: string, memoryMiB: number) {
    this.directory = directory;
    this.memoryMiB = memoryMiB;
  }

  /** Boots a guest, freezes it and makes its memory the layer `golden`. */
  static async open(memoryMiB: number): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'cryobox-lab-')), memoryMiB);
    try {
      await lab.#freezeGolden();
    } catch (error) {
      await lab.close();
      throw error;
    }
    return lab;
  }

  get saved(): SavedMachine {
    if (!this.#saved) throw new Error('no golden machine');
    return this.#saved;
  }

  /** The golden machine as something to resume. */
  get golden(): Paused {
    const map = this.flats[0];
    if (!map) throw new Error('no golden layer');
    return { map, deviceSections: this.saved.deviceSections };
  }

  layerPaths = (layerId: string): LayerPaths => ({
    map: join(this.directory, `${layerId}.map`),
    pages: join(this.directory, layerId),
  });

  newLayerId(): string {
    this.#next += 1;
    return `lay_${this.#next}`;
  }

  async image(map: LayerMap): Promise<MemoryImage> {
    const image = await MemoryImage.open(map, localLayers(this.layerPaths));
    this.#images.push(image);
    return image;
  }

  /** Starts a QEMU that waits for a migration; `memory` as for {@link MiniMachine}. */
  async waiting(memory: string, extraArguments: readonly string[] = []): Promise<MiniMachine> {
    this.#next += 1;
    const directory = join(this.directory, `machine-${this.#next}`);
    const machine = await MiniMachine.start({ directory, memoryMiB: this.memoryMiB, memory, extraArguments });
    this.#machines.add(machine);
    return machine;
  }

  /** Resumes by mapping the nearest flat layer and streaming the rest. */
  async resume(paused: Paused, candidates: readonly LayerMap[] = this.flats): Promise<Running> {
    const image = await this.image(paused.map);
    const plan = planResume(paused.map, candidates);
    const path = this.layerPaths(plan.baseLayerId).pages;
    const [machine] = await Promise.all([
      this.waiting(`memory-backend-file,mem-path=${path},share=off`),
      image.warm(plan.extents),
    ]);
    const sent = await this.load(machine, { paused, image, plan });
    return { machine, image, plan, sent };
  }

  /** Streams into a waiting machine and lets it run. */
  async load(
    machine: MiniMachine,
    from: { paused: Paused; image: MemoryImage; plan: ResumePlan },
  ): Promise<ResumeResult> {
    const { machineType } = this.saved;
    const { deviceSections } = from.paused;
    let sent: ResumeResult | undefined;
    const write = async (socket: Socket): Promise<void> => {
      sent = await writeResumeStream({
        socket,
        machineType,
        deviceSections,
        image: from.image,
        plan: from.plan,
      });
    };
    await loadState(machine.qmp, machine.directory, { ignoreShared: false, write });
    await machine.qmp.execute('cont');
    if (!sent) throw new Error('nothing was sent');
    return sent;
  }

  /** Stops a machine and saves its device sections. */
  async freeze(machine: MiniMachine): Promise<Buffer> {
    await machine.qmp.execute('stop');
    const filename = join(machine.directory, 'device.state');
    await machine.qmp.execute('xen-save-devices-state', { filename, live: false });
    return parseDeviceState(await readFile(filename));
  }

  /** Captures a machine that maps its base's file, kills it, and returns what can be resumed. */
  async pause(
    running: Running,
    more: Partial<CaptureOptions> = {},
  ): Promise<Paused & { result: CaptureResult }> {
    const deviceSections = await this.freeze(running.machine);
    const result = await this.capture(running, more);
    await this.kill(running.machine);
    return { map: result.map, deviceSections, result };
  }

  capture(running: Running, more: Partial<CaptureOptions> = {}): Promise<CaptureResult> {
    const layerId = more.layerId ?? this.newLayerId();
    return captureProcess({
      pid: running.machine.pid,
      mapping: {
        file: this.layerPaths(running.plan.baseLayerId).pages,
        sizeBytes: this.memoryMiB * 2 ** 20,
      },
      parent: running.image,
      paths: this.layerPaths(layerId),
      ...more,
      layerId,
    });
  }

  async kill(machine: MiniMachine): Promise<void> {
    this.#machines.delete(machine);
    await machine.kill();
  }

  async close(): Promise<void> {
    await Promise.all([...this.#machines].map((machine) => machine.kill()));
    await Promise.all(this.#images.map((image) => image.close()));
    await rm(this.directory, { recursive: true, force: true });
  }

  async #freezeGolden(): Promise<void> {
    const layerId = 'golden';
    const { pages: path } = this.layerPaths(layerId);
    const machine = await MiniMachine.start({
      directory: join(this.directory, 'golden-machine'),
      memoryMiB: this.memoryMiB,
      memory: `memory-backend-file,mem-path=${path},share=on`,
      boot: { kernel: await kernelPath(), initramfs: await writeInitramfs(this.directory) },
    });
    this.#machines.add(machine);
    await machine.qmp.execute('cont');
    await machine.ready();
    await machine.qmp.execute('stop');
    const stream = await saveDeviceState(machine.qmp, machine.directory);
    await this.kill(machine);
    this.#saved = await readSavedMachine([stream], 'mem');
    const map = await adoptGolden({ paths: this.layerPaths(layerId), layerId, saved: this.#saved });
    this.flats.push(map);
  }
}
