import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { boxLimits } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { KeyedMutex } from '../../base/mutex.js';
import { CryoboxError, messageOf } from '../../errors.js';
import {
  type Accelerator,
  deviceListVersion,
  hostArchitecture,
  type MachineShape,
  qemuArguments,
} from '../../machine/index.js';
import {
  countGoldens,
  type Database,
  deleteGolden,
  deleteStaleGoldens,
  findGolden,
  type GoldenRow,
  goldensWithoutUse,
  insertGolden,
  listGoldens,
} from '../../store/index.js';
import type { HomePaths } from '../core/home.js';
import type { LayerFiles } from '../layers/layer-files.js';
import { chooseAccelerator } from './accelerator.js';
import { buildGolden, type GoldenFiles } from './golden-build.js';
import type { MachineParts, PartsByArchitecture } from './parts.js';
import { shapeOfState } from './shapes.js';

/** A machine booted once for its shape and frozen before it mounts a box's disk. */
export interface Golden {
  readonly key: string;
  readonly shape: MachineShape;
  readonly accelerator: Accelerator;
  readonly row: GoldenRow;
  /** The device state, ready to be sent. */
  readonly state: Buffer;
}

/** How a golden machine is kept; a change makes all of them again. 2: its memory is a layer. */
const goldenFormat = 2;

/** Under KVM a boot takes a second; a KVM that cannot run the kernel hangs for ever. */
const kvmDeadlineMs = 15_000;
/** Under emulation a boot takes two to four seconds; a busy host may need far longer. */
const tcgDeadlineMs = 180_000;

/**
 * Golden machines of one home: each takes 120 MiB on the disk, one of 64 GiB ten times that, and callers choose the
 * shapes. Far more than people name; a caller that asks for every size there is stops here.
 */
export const defaultMaxGoldens = 32;
/** Golden machines that nobody uses and that are kept all the same, the last used ones: making one again takes seconds. */
const maxUnused = 4;

interface GoldenNeeds {
  /** @default 32 */
  readonly maxGoldens?: number;
  /** How long one is left that nobody uses: what comes up, or waits, may still be about to need it. */
  readonly idleMs: number;
  readonly paths: HomePaths;
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly parts: PartsByArchitecture;
  readonly logger: Logger;
}

/** The golden machines of a home, one per shape; made on first use. */
export class Goldens {
  readonly #needs: GoldenNeeds;
  readonly #byKey = new Map<string, Promise<Golden>>();
  /** When each was asked for last, in this process. */
  readonly #askedAt = new Map<string, number>();
  readonly #changing = new KeyedMutex();
  #accelerator: Promise<Accelerator> | undefined;

  constructor(needs: GoldenNeeds) {
    this.#needs = needs;
  }

  /** The golden machine of a shape; asked for by many at once it is built once. */
  async get(shape: MachineShape): Promise<Golden> {
    const parts = await this.#needs.parts.of(shape.architecture);
    const accelerator = await this.#choose(shape);
    const key = keyOf(parts, shape, accelerator);
    this.#askedAt.set(key, Date.now());
    return await this.#once(key, () => this.#ensure(key, shape, accelerator));
  }

  /**
   * Lets go of golden machines of shapes that nobody has: those not asked for within `minAgeMs`, and all but the last
   * used few. That of the default shape stays. Returns the layers of what is let go, or would be with `dryRun`.
   */
  async collect({ dryRun, minAgeMs }: { dryRun: boolean; minAgeMs: number }): Promise<string[]> {
    const { db, idleMs } = this.#needs;
    const unused = (await goldensWithoutUse(db))
      .filter((row) => !isUsual(shapeOfState(row)))
      .sort((a, b) => this.#usedAt(b) - this.#usedAt(a));
    const layers: string[] = [];
    for (const [at, row] of unused.entries()) {
      const leftMs = Math.max(idleMs, at < maxUnused ? minAgeMs : 0);
      const isDue = (): boolean => Date.now() - this.#usedAt(row) >= leftMs;
      if (!isDue() || (!dryRun && !(await this.#drop(row.key, isDue)))) continue;
      layers.push(row.ram_layer, row.state_layer, row.guest_layer);
    }
    return layers;
  }

  #usedAt({ key, created_at }: GoldenRow): number {
    return Math.max(created_at, this.#askedAt.get(key) ?? 0);
  }

  /** Deletes one, unless it was asked for meanwhile; who asks later makes it again. */
  async #drop(key: string, isDue: () => boolean): Promise<boolean> {
    return await this.#changing.run(key, async () => {
      if (!isDue()) return false;
      this.#byKey.delete(key);
      this.#askedAt.delete(key);
      await deleteGolden(this.#needs.db, key);
      return true;
    });
  }

  /**
   * Forgets golden machines that would be made otherwise now: of another QEMU, kernel, agent, command line or form. What
   * boxes still need of them stays; so do those of another architecture whose parts are not here now.
   */
  async dropStale(): Promise<void> {
    const { db, parts, logger } = this.#needs;
    const shapes = (await listGoldens(db)).map(shapeOfState);
    for (const architecture of new Set(shapes.map((shape) => shape.architecture))) {
      await parts.of(architecture).catch((error: unknown) => {
        logger.warn('machines of an architecture cannot run here', {
          architecture,
          reason: messageOf(error),
        });
      });
    }
    await deleteStaleGoldens(db, (row) => {
      const shape = shapeOfState(row);
      const ofIt = parts.known(shape.architecture);
      if (!ofIt) return false;
      const now = keyOf(ofIt, shape, row.accelerator as Accelerator);
      return row.key !== now || row.machine_type === '' || row.devices !== deviceListVersion;
    });
  }

  async #once(key: string, make: () => Promise<Golden>): Promise<Golden> {
    const golden = this.#byKey.get(key) ?? make();
    this.#byKey.set(key, golden);
    try {
      return await golden;
    } catch (error) {
      this.#byKey.delete(key);
      throw error;
    }
  }

  /**
   * The trial is the making of the first golden machine: under KVM if that boots. Another processor than the host's is
   * always emulated.
   */
  async #choose(shape: MachineShape): Promise<Accelerator> {
    if (shape.architecture !== hostArchitecture().name) return 'tcg';
    const { parts, logger } = this.#needs;
    this.#accelerator ??= chooseAccelerator(parts.host.qemu.version, logger, async () => {
      const key = keyOf(parts.host, shape, 'kvm');
      await this.#once(key, () => this.#ensure(key, shape, 'kvm'));
    });
    try {
      return await this.#accelerator;
    } catch (error) {
      this.#accelerator = undefined;
      throw error;
    }
  }

  async #ensure(key: string, shape: MachineShape, accelerator: Accelerator): Promise<Golden> {
    return await this.#changing.run(key, () => this.#find(key, shape, accelerator));
  }

  async #find(key: string, shape: MachineShape, accelerator: Accelerator): Promise<Golden> {
    const known = await findGolden(this.#needs.db, key);
    if (!known) await this.#refuseMore(shape);
    const row = known ?? (await this.#build(key, shape, accelerator));
    const state = await readFile(this.#needs.layers.path(row.state_layer));
    return { key, shape, accelerator, row, state };
  }

  async #refuseMore({ cpus, memoryMiB }: MachineShape): Promise<void> {
    const { db, maxGoldens = defaultMaxGoldens } = this.#needs;
    if ((await countGoldens(db)) < maxGoldens) return;
    await this.collect({ dryRun: false, minAgeMs: 0 });
    if ((await countGoldens(db)) < maxGoldens) return;
    throw new CryoboxError(
      'resource_exhausted',
      `this home keeps machines of ${maxGoldens} shapes already, none with ${cpus} processors and ${memoryMiB} MiB`,
      {
        hint: 'Ask for the processors and memory of another box (`cryobox ls`), or remove boxes and run `cryobox gc`.',
        details: { limit: maxGoldens },
      },
    );
  }

  async #build(key: string, shape: MachineShape, accelerator: Accelerator): Promise<GoldenRow> {
    const { parts, logger } = this.#needs;
    const { qemu, assets } = await parts.of(shape.architecture);
    logger.info('booting a golden machine', { ...shape, accelerator });
    const deadlineMs = accelerator === 'kvm' ? kvmDeadlineMs : tcgDeadlineMs;
    const files = await buildGolden({ ...this.#needs, qemu, assets, shape, accelerator, deadlineMs });
    const row: GoldenRow = {
      key,
      accelerator,
      cpus: shape.cpus,
      memory_mib: shape.memoryMiB,
      qemu_version: qemu.version,
      assets_key: assets.key,
      kernel_version: assets.kernelVersion,
      ram_layer: files.ram.id,
      state_layer: files.state.id,
      guest_layer: files.guest.id,
      boot_ms: files.bootMs,
      machine_type: files.machineType,
      devices: deviceListVersion,
      created_at: Date.now(),
    };
    await this.#publish(row, files);
    return row;
  }

  async #publish(row: GoldenRow, files: GoldenFiles): Promise<void> {
    // The map first: the pages refer to it.
    await insertGolden(this.#needs.db, row, [files.map, files.ram, files.state, files.guest]);
  }
}

/** Everything a frozen machine depends on; a change of any of it makes another golden machine. */
function keyOf({ qemu, assets }: MachineParts, shape: MachineShape, accelerator: Accelerator): string {
  const boot = { kernelPath: 'kernel', initramfsPath: 'initramfs' };
  const commandLine = qemuArguments({ shape, accelerator, ram: 'private-file', card: 'open', boot });
  const facts = JSON.stringify([goldenFormat, qemu.version, assets.key, commandLine]);
  return createHash('sha256').update(facts).digest('hex').slice(0, 32);
}

/** Whether a shape is the one that boxes have unless asked otherwise. */
function isUsual({ architecture, cpus, memoryMiB }: MachineShape): boolean {
  const isDefault = cpus === boxLimits.cpus.default && memoryMiB === boxLimits.memoryMiB.default;
  return isDefault && architecture === hostArchitecture().name;
}
