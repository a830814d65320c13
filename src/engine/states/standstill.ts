import type { LiveBox } from '../machines/live.js';

/** A busy guest answers late, but it answers. */
const holdTimeoutMs = 30_000;

/** A machine that stands still while nothing reaches its ports; it goes on once. */
export class Standstill {
  readonly #live: LiveBox;
  readonly #letGo: () => void;
  readonly #started = performance.now();
  #ended: Promise<void> | undefined;
  /** How long it stood still; 0 until it goes on. */
  durationMs = 0;

  private constructor(live: LiveBox, letGo: () => void) {
    this.#live = live;
    this.#letGo = letGo;
  }

  /** Throws `timeout` when the guest does not answer, `machine_failed`; the machine goes on then. */
  static async begin(live: LiveBox): Promise<Standstill> {
    // Bytes that reach the guest's ports while it stands still would change memory that is being read.
    const still = new Standstill(live, await live.agent.hold(holdTimeoutMs));
    try {
      await live.machine.halt();
      return still;
    } catch (error) {
      await still.end();
      throw error;
    }
  }

  /** The machine goes on, if it does not yet. */
  end(): Promise<void> {
    this.#ended ??= this.#goOn();
    return this.#ended;
  }

  /** Lets bytes through again, whether the machine goes on or not. */
  letGo(): void {
    this.#letGo();
  }

  async #goOn(): Promise<void> {
    try {
      await this.#live.machine.run();
    } finally {
      this.#letGo();
      this.durationMs = performance.now() - this.#started;
    }
  }
}
