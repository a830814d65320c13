import { environmentValue } from '../../base/environment.js';
import { faultPoint } from '../../base/faults.js';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';
import type { AgentClient } from '../../guest/index.js';
import type { Card } from '../../machine/index.js';
import type { Scratch } from '../layers/scratch.js';
import type { Golden } from './golden.js';
import { loadGolden } from './golden-load.js';
import { hasRoomInMemory } from './host-memory.js';
import { goldenSpec, type MachinePool, type PoolOptions, type WaitingMachine } from './pool.js';
import { attachRehearsal, RehearsalDisk, rehearse } from './rehearsal.js';

/** A machine that has rehearsed the start of a box, and stands still without disks; its agent is connected. */
export interface HotMachine extends WaitingMachine {
  readonly agent: AgentClient;
}

/** Making one takes the processor from boxes that start: it begins when none has come up for so long. */
const quietMs = 250;
/** How often it is looked whether the host has memory for those that wait. */
const pressureMs = 5_000;

/** How many are kept per shape. Throws `config_error` for a variable that is no number. */
export function hotSizeOf({ poolSize, hotSize }: { poolSize?: number; hotSize?: number }): number {
  if (poolSize === 0) return 0;
  if (hotSize !== undefined) return hotSize;
  const text = environmentValue('CRYOBOX_HOT_MACHINES') ?? '0';
  if (/^\d{1,2}$/.test(text)) return Number(text);
  throw new CryoboxError(
    'config_error',
    `CRYOBOX_HOT_MACHINES is ${JSON.stringify(text)}, expected 0 to 99`,
    {
      hint: 'Set it to 1, or to 0 for none.',
    },
  );
}

interface Shelf {
  readonly golden: Golden;
  readonly card: Card;
  readonly waiting: HotMachine[];
  quietTimer: NodeJS.Timeout | undefined;
  idleTimer: NodeJS.Timeout | undefined;
}

interface HotNeeds {
  readonly pool: MachinePool;
  readonly scratch: Scratch;
  readonly logger: Logger;
}

/**
 * Machines that have started a box once, on a disk that is gone again, and wait for the disks of the next box. Under
 * emulation the kernel's code for it is translated then, which is most of what a start takes.
 */
export class HotMachines {
  readonly #needs: HotNeeds;
  readonly #options: PoolOptions;
  readonly #disk: RehearsalDisk;
  readonly #shelves = new Map<string, Shelf>();
  /** One is made at a time. */
  #making: Promise<void> = Promise.resolve();
  #underWay: WaitingMachine | undefined;
  #pressureTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(needs: HotNeeds, options: PoolOptions) {
    this.#needs = needs;
    this.#options = options;
    this.#disk = new RehearsalDisk(needs.scratch);
  }

  /** How many wait now. */
  get count(): number {
    let count = 0;
    for (const shelf of this.#shelves.values()) count += shelf.waiting.length;
    return count;
  }

  /** One that goes on from this golden machine, if one waits. The caller owns it. */
  async take(golden: Golden, card: Card): Promise<HotMachine | undefined> {
    const shelf = this.#shelves.get(keyOf(golden, card));
    for (let next = shelf?.waiting.shift(); next; next = shelf?.waiting.shift()) {
      if (await next.machine.isAlive()) return next;
      await this.#giveUp(next);
    }
    return undefined;
  }

  /** Keeps machines like this; called when a box has come up, so that none is made while it does. */
  refill(golden: Golden, card: Card): void {
    if (this.#closed || this.#options.size === 0) return;
    for (const shelf of this.#shelves.values()) {
      // The golden machine was made again: what went on from the former one is of no use.
      const isFormer = shelf.golden.key === golden.key && shelf.golden.row.ram_layer !== golden.row.ram_layer;
      if (isFormer) this.#emptyInBackground(shelf);
      // A box has come up: what was to be made waits longer.
      else if (shelf.quietTimer !== undefined) this.#fillWhenQuiet(shelf);
    }
    const shelf = this.#shelf(golden, card);
    clearTimeout(shelf.idleTimer);
    shelf.idleTimer = setTimeout(() => this.#emptyInBackground(shelf), this.#options.idleMs).unref();
    this.#fillWhenQuiet(shelf);
  }

  /** Ends all of them. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#pressureTimer);
    for (const shelf of this.#shelves.values()) clearTimeout(shelf.quietTimer);
    // What it does then fails, and it is given up.
    await this.#underWay?.machine.kill().catch(() => undefined);
    await this.#making;
    for (const shelf of this.#shelves.values()) await this.#empty(shelf);
    await this.#disk.close();
  }

  #shelf(golden: Golden, card: Card): Shelf {
    const key = keyOf(golden, card);
    const known = this.#shelves.get(key);
    if (known) return known;
    const shelf: Shelf = { golden, card, waiting: [], quietTimer: undefined, idleTimer: undefined };
    this.#shelves.set(key, shelf);
    return shelf;
  }

  #fillWhenQuiet(shelf: Shelf): void {
    clearTimeout(shelf.quietTimer);
    shelf.quietTimer = setTimeout(() => {
      shelf.quietTimer = undefined;
      this.#making = this.#making.then(() => this.#fill(shelf));
    }, quietMs).unref();
  }

  /** Never throws. */
  async #fill(shelf: Shelf): Promise<void> {
    try {
      while (!this.#closed && this.#isWanted(shelf) && shelf.waiting.length < this.#options.size) {
        if (!(await hasRoomInMemory())) return;
        const made = await this.#make(shelf);
        if (this.#closed || !this.#isWanted(shelf)) return await this.#giveUp(made);
        shelf.waiting.push(made);
        this.#watch(shelf, made);
      }
    } catch (error) {
      if (this.#closed) return;
      // Boxes start without, and the next one has another one made.
      this.#needs.logger.warn('cannot make a hot machine', { reason: messageOf(error) });
    }
  }

  #isWanted(shelf: Shelf): boolean {
    return this.#shelves.get(keyOf(shelf.golden, shelf.card)) === shelf;
  }

  async #make({ golden, card }: Shelf): Promise<HotMachine> {
    const { pool } = this.#needs;
    const started = await pool.start(goldenSpec(golden, card));
    this.#underWay = started;
    try {
      const { machine } = started;
      if (this.#closed) throw new CryoboxError('cancelled', 'the engine closes');
      await attachRehearsal(machine, await this.#disk.path());
      await loadGolden(machine, golden, card);
      faultPoint('hot.rehearse:before');
      const agent = await rehearse(machine);
      // It takes no processor while it waits, and its clock stands still as that of a golden machine.
      await machine.halt();
      faultPoint('hot.rehearse:after');
      return { ...started, agent };
    } catch (error) {
      await pool.giveUp(started);
      throw error;
    } finally {
      this.#underWay = undefined;
    }
  }

  #watch(shelf: Shelf, made: HotMachine): void {
    this.#pressureTimer ??= setInterval(() => {
      inBackground(this.#giveWay(), 'look at the memory of the host', this.#needs.logger);
    }, pressureMs).unref();
    const replace = async (): Promise<void> => {
      await made.machine.exited;
      const at = shelf.waiting.indexOf(made);
      if (at < 0) return;
      shelf.waiting.splice(at, 1);
      await this.#giveUp(made);
      if (!this.#closed && this.#isWanted(shelf)) this.#fillWhenQuiet(shelf);
    };
    inBackground(replace(), 'replace a hot machine that has ended', this.#needs.logger);
  }

  /** Memory is for boxes first. */
  async #giveWay(): Promise<void> {
    if (this.count === 0 || (await hasRoomInMemory())) return;
    for (const shelf of this.#shelves.values()) await this.#empty(shelf);
  }

  #emptyInBackground(shelf: Shelf): void {
    inBackground(this.#empty(shelf), 'end hot machines', this.#needs.logger);
  }

  async #empty(shelf: Shelf): Promise<void> {
    clearTimeout(shelf.idleTimer);
    clearTimeout(shelf.quietTimer);
    shelf.quietTimer = undefined;
    if (this.#isWanted(shelf)) this.#shelves.delete(keyOf(shelf.golden, shelf.card));
    for (const machine of shelf.waiting.splice(0)) await this.#giveUp(machine);
  }

  async #giveUp(hot: HotMachine): Promise<void> {
    hot.agent.close();
    await this.#needs.pool.giveUp(hot);
  }
}

function keyOf({ row }: Golden, card: Card): string {
  return `${row.ram_layer} ${card}`;
}
