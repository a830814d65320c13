import { CryoboxError } from '../errors.js';

interface Shared<T, P> {
  readonly controller: AbortController;
  readonly listeners: Set<(progress: P) => void>;
  waiters: number;
  promise: Promise<T>;
}

/** Runs one task a key at a time; who asks for a key under way waits for the same result and sees its progress. */
export class SharedTasks<T, P> {
  readonly #running = new Map<string, Shared<T, P>>();
  /** Tasks nobody waits for any more that have not ended yet: the next of the same key starts after them. */
  readonly #ending = new Map<string, Promise<unknown>>();

  /**
   * Starts a task or joins it. A waiter whose signal fires leaves with `cancelled`; the task itself is cancelled only
   * when the last waiter has left.
   */
  async run(
    key: string,
    start: (signal: AbortSignal, report: (progress: P) => void) => Promise<T>,
    options: { readonly signal?: AbortSignal; readonly onProgress?: (progress: P) => void },
  ): Promise<T> {
    const { signal, onProgress } = options;
    if (signal?.aborted) throw cancelled(signal);
    const shared = this.#running.get(key) ?? this.#start(key, start);
    shared.waiters += 1;
    if (onProgress) shared.listeners.add(onProgress);
    try {
      return await untilAborted(shared.promise, signal);
    } finally {
      shared.waiters -= 1;
      if (onProgress) shared.listeners.delete(onProgress);
      if (shared.waiters === 0) {
        this.#leave(key, shared);
      }
    }
  }

  #start(
    key: string,
    start: (signal: AbortSignal, report: (progress: P) => void) => Promise<T>,
  ): Shared<T, P> {
    const controller = new AbortController();
    const listeners = new Set<(progress: P) => void>();
    const report = (progress: P): void => {
      for (const listener of listeners) listener(progress);
    };
    const promise = this.#afterEnding(key, () => start(controller.signal, report));
    const shared: Shared<T, P> = { controller, listeners, waiters: 0, promise };
    this.#running.set(key, shared);
    const forget = (): void => {
      if (this.#running.get(key) === shared) this.#running.delete(key);
    };
    promise.then(forget, forget);
    return shared;
  }

  async #afterEnding(key: string, start: () => Promise<T>): Promise<T> {
    await this.#ending.get(key);
    return await start();
  }

  /** Cancels a task nobody waits for; it can no longer be joined. A task that has ended is not there any more. */
  #leave(key: string, shared: Shared<T, P>): void {
    if (this.#running.get(key) !== shared) return;
    this.#running.delete(key);
    const forget = (): void => {
      if (this.#ending.get(key) === ended) this.#ending.delete(key);
    };
    const ended = shared.promise.then(forget, forget);
    this.#ending.set(key, ended);
    shared.controller.abort();
  }
}

async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await promise;
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled(signal));
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort);
  }
}

function cancelled(signal: AbortSignal): CryoboxError {
  return new CryoboxError('cancelled', 'the pull was cancelled', { cause: signal.reason });
}
