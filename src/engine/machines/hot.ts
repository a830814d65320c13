import { faultPoint } from '../../base/faults.js';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';
import type { AgentClient } from '../../guest/index.js';
import { type Card, hostArchitecture } from '../../machine/index.js';
import type { Scratch } from '../layers/scratch.js';
import type { Golden } from './golden.js';
import { loadGolden } from './golden-load.js';
import { hasRoomInMemory } from './host-memory.js';
import type { HotSize } from './hot-size.js';
import { goldenSpec, type MachinePool, type WaitingMachine } from './pool.js';
import { attachRehearsal, RehearsalDisk, rehearse } from './rehearsal.js';

/** A machine that has rehearsed the start of a box, and stands still without disks; its agent is connected. */
export interface HotMachine extends WaitingMachine {
  readonly agent: AgentClient;
}

/** Making one takes the processor from boxes that start: it begins when none has come up for so long. */
const quietMs = 250;
/** How often it is looked whether the host has memory for those that wait. */
const pressureMs = 5_000;

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
  /** A kind that no box is started of for so long gives its machines up. */
  readonly idleMs: number;
}

/**
 * Machines that have started a box once, on a disk that is gone again, and wait for the disks of the next box. Under
 * emulation the kernel's code for it is translated then, which is most of what a start takes.
 */
export class HotMachines {
  readonly #needs: HotNeeds;
  readonly #disk: RehearsalDisk;
  #size: HotSize;
  /** By kind, those last that were used last. */
  readonly #shelves = new Map<string, Shelf>();
  /** One is made at a time. */
  #making: Promise<void> = Promise.resolve();
  #underWay: WaitingMachine | undefined;
  #pressureTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(needs: HotNeeds, size: HotSize) {
    this.#needs = needs;
    this.#size = size;
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

  /** Keeps so many from now on: those beyond are ended before this returns, those that lack are made in the background. */
  async resize(size: HotSize): Promise<void> {
    this.#size = size;
    for (const shelf of this.#shelves.values()) {
      if (size.perKind === 0 || size.atMost === 0) {
        await this.#empty(shelf);
        continue;
      }
      for (const machine of shelf.waiting.splice(size.perKind)) await this.#giveUp(machine);
      if (shelf.waiting.length < size.perKind) this.#fillWhenQuiet(shelf);
    }
    while (this.count > size.atMost) await this.#giveUpOldest();
  }

  /** Keeps machines like this; called when a box has come up, so that none is made while it does. */
  refill(golden: Golden, card: Card): void {
    if (this.#closed || this.#size.perKind === 0 || this.#size.atMost === 0) return;
    // The program of a rehearsal is one of the host's processor.
    if (golden.shape.architecture !== hostArchitecture().name) return;
    for (const shelf of this.#shelves.values()) {
      // The golden machine was made again: what went on from the former one is of no use.
      const isFormer = shelf.golden.key === golden.key && shelf.golden.row.ram_layer !== golden.row.ram_layer;
      if (isFormer) this.#emptyInBackground(shelf);
      // A box has come up: what was to be made waits longer.
      else if (shelf.quietTimer !== undefined) this.#fillWhenQuiet(shelf);
    }
    const shelf = this.#shelf(golden, card);
    clearTimeout(shelf.idleTimer);
    shelf.idleTimer = setTimeout(() => this.#emptyInBackground(shelf), this.#needs.idleMs).unref();
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
    const shelf = known ?? { golden, card, waiting: [], quietTimer: undefined, idleTimer: undefined };
    this.#shelves.delete(key);
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
      while (this.#lacks(shelf)) {
        if (!(await hasRoomInMemory())) return;
        if (this.count >= this.#size.atMost && !(await this.#giveUpOldest(shelf))) return;
        const made = await this.#make(shelf);
        if (!this.#lacks(shelf)) return await this.#giveUp(made);
        shelf.waiting.push(made);
        this.#watch(shelf, made);
      }
    } catch (error) {
      if (this.#closed) return;
      // Boxes start without, and the next one has another one made.
      this.#needs.logger.warn('cannot make a hot machine', { reason: messageOf(error) });
    }
  }

  #lacks(shelf: Shelf): boolean {
    const { perKind, atMost } = this.#size;
    return !this.#closed && this.#isWanted(shelf) && atMost > 0 && shelf.waiting.length < perKind;
  }

  /** Ends one of the kind that was used longest ago; false when there is none of another kind than `but`. */
  async #giveUpOldest(but?: Shelf): Promise<boolean> {
    for (const shelf of this.#shelves.values()) {
      const oldest = shelf === but ? undefined : shelf.waiting.shift();
      if (oldest === undefined) continue;
      await this.#giveUp(oldest);
      return true;
    }
    return false;
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
