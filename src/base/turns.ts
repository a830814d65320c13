import { setImmediate } from 'node:timers/promises';

/**
 * Milliseconds a loop works before others get a turn: everybody else waits for that long, and a turn given away costs a
 * hundredth of it at most.
 */
const turnMs = 8;
/** Steps between two looks at the clock, which cost as much as a small step. */
const stepsPerLook = 16;

/**
 * Turns of the event loop for a loop over what somebody else made. A loop whose steps await nothing but what is there
 * already would keep everybody else waiting until it ends.
 */
export class Turns {
  #since = performance.now();
  #steps = 0;

  /** After a small step: gives others a turn when it is time, and says by a promise when it goes on. */
  step(): Promise<void> | undefined {
    this.#steps += 1;
    if (this.#steps < stepsPerLook) return undefined;
    return this.chunk();
  }

  /** After a step that takes a good part of a millisecond: as {@link step}. */
  chunk(): Promise<void> | undefined {
    this.#steps = 0;
    return performance.now() - this.#since < turnMs ? undefined : this.#give();
  }

  async #give(): Promise<void> {
    await setImmediate();
    this.#since = performance.now();
  }
}
