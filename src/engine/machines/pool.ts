import { join } from 'node:path';
import { newId } from '../../base/ids.js';
import type { Logger } from '../../base/log.js';
import { messageOf } from '../../errors.js';
import {
  type Accelerator,
  hostBootId,
  Machine,
  type MachineShape,
  machineFiles,
  newMachineUser,
  type QemuBinary,
} from '../../machine/index.js';
import { type Database, databaseError } from '../../store/index.js';
import type { GuestAssets } from '../assets.js';
import type { HomePaths } from '../home.js';
import type { LayerFiles } from '../layer-files.js';
import type { Golden } from './golden.js';

/** How machines are kept waiting. */
export interface PoolOptions {
  /** Waiting machines per kind in use; 0: none. @default 1 */
  readonly size: number;
  /** A kind that nobody asks for gives its machines up after this time. @default 600000 */
  readonly idleMs: number;
}

/** A QEMU that waits for a state, and its id. */
export interface WaitingMachine {
  readonly id: string;
  readonly machine: Machine;
}

/** What a machine is started as. */
export interface WaitingSpec {
  readonly shape: MachineShape;
  readonly accelerator: Accelerator;
  /** The flat layer that is mapped as its memory; null: memory of its own. */
  readonly baseLayer: string | null;
  readonly outbound: boolean;
}

interface Shelf {
  readonly spec: WaitingSpec;
  readonly waiting: WaitingMachine[];
  filling: number;
  idleTimer: NodeJS.Timeout | undefined;
}

interface PoolNeeds {
  readonly paths: HomePaths;
  readonly db: Database;
  readonly layers: LayerFiles;
  readonly qemu: QemuBinary;
  readonly assets: GuestAssets;
  readonly logger: Logger;
}

/** QEMU processes that have started and wait for a state: starting one is most of the time of a restore. */
export class MachinePool {
  readonly #needs: PoolNeeds;
  readonly #options: PoolOptions;
  readonly #shelves = new Map<string, Shelf>();
  readonly #starting = new Set<Promise<void>>();
  #closed = false;

  constructor(needs: PoolNeeds, options: PoolOptions) {
    this.#needs = needs;
    this.#options = options;
  }

  /** A machine that waits, if one like this is kept, or one started now. The caller owns it. */
  async take(spec: WaitingSpec): Promise<WaitingMachine> {
    const waiting = this.#shelves.get(keyOf(spec))?.waiting ?? [];
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      if (await next.machine.isAlive()) return next;
      await this.discard(next);
    }
    return await this.start(spec);
  }

  /** Keeps machines like this waiting; called when a box has come up, so that it does not compete with it. */
  refill(spec: WaitingSpec): void {
    const shelf = this.#shelf(spec);
    while (!this.#closed && shelf.waiting.length + shelf.filling < this.#options.size) {
      shelf.filling += 1;
      const filled = this.#fill(shelf).finally(() => this.#starting.delete(filled));
      this.#starting.add(filled);
    }
  }

  /** Ends all waiting machines. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#starting);
    for (const shelf of this.#shelves.values()) await this.#empty(shelf);
  }

  #shelf(spec: WaitingSpec): Shelf {
    const key = keyOf(spec);
    const shelf = this.#shelves.get(key) ?? { spec, waiting: [], filling: 0, idleTimer: undefined };
    this.#shelves.set(key, shelf);
    clearTimeout(shelf.idleTimer);
    shelf.idleTimer = setTimeout(() => void this.#empty(shelf), this.#options.idleMs).unref();
    return shelf;
  }

  async #fill(shelf: Shelf): Promise<void> {
    try {
      const started = await this.start(shelf.spec);
      if (this.#closed) await this.discard(started);
      else shelf.waiting.push(started);
    } catch (error) {
      this.#needs.logger.warn('cannot start a waiting machine', { reason: messageOf(error) });
    } finally {
      shelf.filling -= 1;
    }
  }

  async #empty(shelf: Shelf): Promise<void> {
    clearTimeout(shelf.idleTimer);
    for (const machine of shelf.waiting.splice(0)) await this.discard(machine);
  }

  /** Ends a machine that waits. */
  async discard({ id, machine }: WaitingMachine): Promise<void> {
    await machine.kill();
    await this.#needs.db.deleteFrom('machines').where('id', '=', id).execute();
  }

  /** Starts a machine that waits for a state. The caller owns it. */
  async start({ shape, accelerator, baseLayer, outbound }: WaitingSpec): Promise<WaitingMachine> {
    const { paths, layers, qemu, assets, db } = this.#needs;
    const id = newId('mch');
    const user = await newMachineUser(accelerator);
    const ram = baseLayer === null ? 'anonymous' : 'private-file';
    const base =
      baseLayer === null ? [] : [{ path: layers.path(baseLayer), name: machineFiles.ram, writable: false }];
    const machine = await Machine.launch({
      directory: join(paths.machines, id),
      spec: { shape, accelerator, ram, outbound },
      qemuPath: qemu.path,
      user,
      files: [...base, { path: assets.guardPath, name: machineFiles.guard, writable: false }],
    });
    try {
      await db
        .insertInto('machines')
        .values({
          id,
          box_id: null,
          memory_id: null,
          base_layer: baseLayer,
          pager_pid: null,
          pager_ticks: null,
          pid: machine.process.pid,
          start_ticks: machine.process.startTicks,
          host_boot: await hostBootId(),
          uid: user?.uid ?? null,
          gid: user?.gid ?? null,
          created_at: Date.now(),
        })
        .execute();
    } catch (error) {
      await machine.kill();
      throw databaseError(error);
    }
    return { id, machine };
  }
}

function keyOf({ shape, accelerator, baseLayer, outbound }: WaitingSpec): string {
  return JSON.stringify([shape.cpus, shape.memoryMiB, accelerator, baseLayer, outbound]);
}

/** A machine that goes on from a golden one. */
export function goldenSpec({ shape, accelerator, row }: Golden, outbound: boolean): WaitingSpec {
  return { shape, accelerator, baseLayer: row.ram_layer, outbound };
}
