import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Logger } from '../../base/log.js';
import {
  type Accelerator,
  deviceListVersion,
  type MachineShape,
  type QemuBinary,
  qemuArguments,
} from '../../machine/index.js';
import { type Database, type GoldenRow, hold, release } from '../../store/index.js';
import type { GuestAssets } from '../assets.js';
import type { HomePaths } from '../home.js';
import type { LayerFiles } from '../layer-files.js';
import { chooseAccelerator } from './accelerator.js';
import { buildGolden, type GoldenFiles } from './golden-build.js';

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

interface GoldenNeeds {
  readonly paths: HomePaths;
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly qemu: QemuBinary;
  readonly assets: GuestAssets;
  readonly logger: Logger;
}

/** The golden machines of a home, one per shape; made on first use. */
export class Goldens {
  readonly #needs: GoldenNeeds;
  readonly #byKey = new Map<string, Promise<Golden>>();
  #accelerator: Promise<Accelerator> | undefined;

  constructor(needs: GoldenNeeds) {
    this.#needs = needs;
  }

  /** The golden machine of a shape; asked for by many at once it is built once. */
  async get(shape: MachineShape): Promise<Golden> {
    const accelerator = await this.#choose(shape);
    const key = this.#key(shape, accelerator);
    return await this.#once(key, () => this.#ensure(key, shape, accelerator));
  }

  /** Forgets golden machines of another QEMU, kernel or agent; what boxes still need of them stays. */
  async dropStale(): Promise<void> {
    const { db, qemu, assets } = this.#needs;
    const stale = await db
      .selectFrom('goldens')
      .select('key')
      .where((q) =>
        q.or([
          q('qemu_version', '!=', qemu.version),
          q('assets_key', '!=', assets.key),
          q('machine_type', '=', ''),
          q('devices', '!=', deviceListVersion),
        ]),
      )
      .execute();
    for (const { key } of stale) {
      await db.transaction().execute(async (tx) => {
        await tx.deleteFrom('goldens').where('key', '=', key).execute();
        await release(tx, `golden:${key}`);
      });
    }
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

  /** The trial is the making of the first golden machine: under KVM if that boots. */
  async #choose(shape: MachineShape): Promise<Accelerator> {
    this.#accelerator ??= chooseAccelerator(this.#needs.qemu.version, this.#needs.logger, async () => {
      const key = this.#key(shape, 'kvm');
      await this.#once(key, () => this.#ensure(key, shape, 'kvm'));
    });
    try {
      return await this.#accelerator;
    } catch (error) {
      this.#accelerator = undefined;
      throw error;
    }
  }

  /** Everything a frozen machine depends on; a change of any of it makes another golden machine. */
  #key(shape: MachineShape, accelerator: Accelerator): string {
    const { qemu, assets } = this.#needs;
    const boot = { kernelPath: 'kernel', initramfsPath: 'initramfs' };
    const commandLine = qemuArguments({ shape, accelerator, ram: 'private-file', outbound: true, boot });
    const facts = JSON.stringify([goldenFormat, qemu.version, assets.key, commandLine]);
    return createHash('sha256').update(facts).digest('hex').slice(0, 32);
  }

  async #ensure(key: string, shape: MachineShape, accelerator: Accelerator): Promise<Golden> {
    const { db } = this.#needs;
    const known = await db.selectFrom('goldens').selectAll().where('key', '=', key).executeTakeFirst();
    const row = known ?? (await this.#build(key, shape, accelerator));
    const state = await readFile(this.#needs.layers.path(row.state_layer));
    return { key, shape, accelerator, row, state };
  }

  async #build(key: string, shape: MachineShape, accelerator: Accelerator): Promise<GoldenRow> {
    const { qemu, assets, logger } = this.#needs;
    logger.info('booting a golden machine', { ...shape, accelerator });
    const deadlineMs = accelerator === 'kvm' ? kvmDeadlineMs : tcgDeadlineMs;
    const files = await buildGolden({ ...this.#needs, shape, accelerator, deadlineMs });
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
    await this.#needs.db.transaction().execute(async (tx) => {
      // The map first: the pages refer to it.
      const rows = [files.map, files.ram, files.state, files.guest];
      await tx.insertInto('layers').values(rows).execute();
      await tx.insertInto('goldens').values(row).execute();
      await hold(
        tx,
        `golden:${row.key}`,
        rows.map(({ id }) => id),
      );
    });
  }
}
