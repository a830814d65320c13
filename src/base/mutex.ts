/** Runs tasks one after the other, in the order they came. A task that fails does not stop the next. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** Tasks running or waiting. */
  get pending(): number {
    return this.#waiting;
  }

  /** Runs `task` when all earlier ones have ended, and returns what it returns. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    this.#waiting += 1;
    const turn = this.#tail.then(task);
    this.#tail = turn.catch(() => undefined);
    try {
      return await turn;
    } finally {
      this.#waiting -= 1;
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

  /** Runs `task` as soon as there is room, and returns what it returns. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** One mutex per key; a key's mutex is dropped as soon as nobody uses it. */
export class KeyedMutex {
  readonly #byKey = new Map<string, Mutex>();

  /** Runs `task` when all earlier tasks of the same key have ended. */
  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const mutex = this.#byKey.get(key) ?? new Mutex();
    this.#byKey.set(key, mutex);
    try {
      return await mutex.run(task);
    } finally {
      if (mutex.pending === 0) this.#byKey.delete(key);
    }
  }
}
