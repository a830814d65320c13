import { abortable } from './abort.js';

/** Runs tasks one after the other, in the order they came. A task that fails does not stop the next. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Tasks running or waiting. */
  get pending(): number {
    return this.#waiting;
  }

  /**
   * Runs `task` when all earlier ones have ended, and returns what it returns. Throws `cancelled` at once when the signal
   * is raised before its turn; a task that has begun has to look at the signal itself.
   */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#waiting += 1;
    const earlier = this.#tail;
    let end: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    // Who gives up waiting must not let the next one in before its turn.
    this.#tail = Promise.all([earlier, ended]);
    try {
      await abortable(earlier, signal);
      return await task();
    } finally {
      this.#waiting -= 1;
      end();
    }
  }
}

/** Lets at most `limit` tasks run at once; the others wait in order. */
export class Semaphore {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  /**
   * Runs `task` as soon as there is room, and returns what it returns. Throws `cancelled` at once when the signal is
   * raised before.
   */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal);
    try {
      return await task();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#free += 1;
    }
  }

  async #wait(signal: AbortSignal | undefined): Promise<void> {
    let enter: () => void = () => undefined;
    const turn = new Promise<void>((resolve) => {
      enter = resolve;
    });
    this.#queue.push(enter);
    try {
      await abortable(turn, signal);
    } catch (error) {
      const place = this.#queue.indexOf(enter);
      if (place !== -1) {
        this.#queue.splice(place, 1);
        throw error;
      }
      // Its turn had come in the same moment: the task sees the signal, and gives the place back.
    }
  }
}

/** One mutex per key; a key's mutex is dropped as soon as nobody uses it. */
export class KeyedMutex {
  readonly #byKey = new Map<string, Mutex>();

  /** Runs `task` when all earlier tasks of the same key have ended; throws `cancelled` as {@link Mutex.run}. */
  async run<T>(key: string, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const mutex = this.#byKey.get(key) ?? new Mutex();
    this.#byKey.set(key, mutex);
    try {
      return await mutex.run(task, signal);
    } finally {
      if (mutex.pending === 0 && this.#byKey.get(key) === mutex) this.#byKey.delete(key);
    }
  }

  /** Waits for all earlier tasks of the key. Later ones wait until the returned function has been called. Never rejects. */
  hold(key: string): Promise<() => void> {
    return new Promise((held) => {
      const task = (): Promise<void> => new Promise((letGo) => held(letGo));
      this.run(key, task).catch(() => undefined);
    });
  }
}
