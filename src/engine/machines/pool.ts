import { join } from 'node:path';
import { newId } from '../../base/ids.js';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';
import { messageOf } from '../../errors.js';
import {
  type Accelerator,
  type Card,
  hostBootId,
  Machine,
  type MachineFile,
  type MachineShape,
  machineFiles,
  newMachineUser,
} from '../../machine/index.js';
import { type Database, databaseError, deleteMachine, insertMachine } from '../../store/index.js';
import type { HomePaths } from '../core/home.js';
import type { LayerFiles } from '../layers/layer-files.js';
import type { Golden } from './golden.js';
import type { PartsByArchitecture } from './parts.js';

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
  readonly card: Card;
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
  readonly parts: PartsByArchitecture;
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
      await this.giveUp(next);
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
    shelf.idleTimer = setTimeout(() => {
      inBackground(this.#empty(shelf), 'end the machines that wait', this.#needs.logger);
    }, this.#options.idleMs).unref();
    return shelf;
  }

  async #fill(shelf: Shelf): Promise<void> {
    try {
      const started = await this.start(shelf.spec);
      if (this.#closed) await this.giveUp(started);
      else shelf.waiting.push(started);
    } catch (error) {
      this.#needs.logger.warn('cannot start a waiting machine', { reason: messageOf(error) });
    } finally {
      shelf.filling -= 1;
    }
  }

  async #empty(shelf: Shelf): Promise<void> {
    clearTimeout(shelf.idleTimer);
    for (const machine of shelf.waiting.splice(0)) await this.giveUp(machine);
  }

  /**
   * Ends a machine that is not needed, or failed. Never throws: what cannot be ended or recorded is logged, and is garbage
   * from then on.
   */
  async giveUp({ id, machine }: WaitingMachine): Promise<void> {
    try {
      await machine.kill();
      await deleteMachine(this.#needs.db, id);
    } catch (error) {
      machine.disconnect();
      this.#needs.logger.warn('cannot end a machine, or not record its end', {
        machine: id,
        reason: messageOf(error),
      });
    }
  }

  /** Starts a machine that waits for a state. The caller owns it. */
  async start({ shape, accelerator, baseLayer, card }: WaitingSpec): Promise<WaitingMachine> {
    const { paths, layers, parts, db } = this.#needs;
    const { qemu, assets } = await parts.of(shape.architecture);
    const id = newId('mch');
    const user = await newMachineUser(accelerator);
    const ram = baseLayer === null ? 'anonymous' : 'private-file';
    const base =
      baseLayer === null ? [] : [{ path: layers.path(baseLayer), name: machineFiles.ram, writable: false }];
    const programs: MachineFile[] = [{ path: assets.guardPath, name: machineFiles.guard, writable: false }];
    if (card === 'gateway') {
      programs.push({ path: assets.gatewayPath, name: machineFiles.gateway, writable: false });
    }
    const machine = await Machine.launch({
      directory: join(paths.machines, id),
      spec: { shape, accelerator, ram, card },
      qemuPath: qemu.path,
      user,
      files: [...base, ...programs],
    });
    try {
      await insertMachine(db, {
        id,
        box_id: null,
        memory_id: null,
        base_layer: baseLayer,
        pager_pid: null,
        pager_ticks: null,
        gateway_pid: null,
        gateway_ticks: null,
        gateway_token: null,
        pid: machine.process.pid,
        start_ticks: machine.process.startTicks,
        host_boot: await hostBootId(),
        uid: user?.uid ?? null,
        gid: user?.gid ?? null,
        created_at: Date.now(),
      });
    } catch (error) {
      // Where it does not end it is garbage; why it is not wanted is what counts.
      await machine.kill().catch(() => machine.disconnect());
      throw databaseError(error);
    }
    return { id, machine };
  }
}

function keyOf({ shape, accelerator, baseLayer, card }: WaitingSpec): string {
  return JSON.stringify([shape.architecture, shape.cpus, shape.memoryMiB, accelerator, baseLayer, card]);
}

/** A machine that goes on from a golden one. */
export function goldenSpec({ shape, accelerator, row }: Golden, card: Card): WaitingSpec {
  return { shape, accelerator, baseLayer: row.ram_layer, card };
}
