/** Longest delay a timer takes, 24.8 days (Node: setTimeout); later deadlines are reached in steps. */
const maxDelayMs = 2 ** 31 - 1;

/** What is due for a box that nobody uses. */
export interface IdlePolicy {
  /** Milliseconds without activity; 0: never. */
  readonly stopAfterMs: number;
  readonly removeAfterMs: number;
  /** When the box was last used, in milliseconds since 1970. */
  readonly lastActiveAt: number;
}

interface Watch {
  policy: IdlePolicy;
  users: number;
  timer: NodeJS.Timeout | undefined;
}

/** One timer per box that has a deadline; nothing polls. */
export class IdleTimers {
  readonly #watches = new Map<string, Watch>();
  readonly #due: (boxId: string, what: 'stop' | 'remove') => void;

  constructor(due: (boxId: string, what: 'stop' | 'remove') => void) {
    this.#due = due;
  }

  /** Sets the deadlines of a box. */
  set(boxId: string, policy: IdlePolicy): void {
    const watch = this.#watches.get(boxId) ?? { policy, users: 0, timer: undefined };
    watch.policy = policy;
    this.#watches.set(boxId, watch);
    this.#arm(boxId, watch);
  }

  /** Marks a box as used until the returned function is called. */
  use(boxId: string): () => void {
    const watch = this.#watches.get(boxId);
    if (!watch) return () => undefined;
    watch.users += 1;
    clearTimeout(watch.timer);
    return () => {
      watch.users -= 1;
      watch.policy = { ...watch.policy, lastActiveAt: Date.now() };
      this.#arm(boxId, watch);
    };
  }

  /** When the box was last used, as far as this engine knows. */
  lastActiveAt(boxId: string): number | undefined {
    return this.#watches.get(boxId)?.policy.lastActiveAt;
  }

  delete(boxId: string): void {
    clearTimeout(this.#watches.get(boxId)?.timer);
    this.#watches.delete(boxId);
  }

  close(): void {
    for (const boxId of [...this.#watches.keys()]) this.delete(boxId);
  }

  #arm(boxId: string, watch: Watch): void {
    clearTimeout(watch.timer);
    if (watch.users > 0) return;
    const { stopAfterMs, removeAfterMs, lastActiveAt } = watch.policy;
    const next = this.#next(stopAfterMs, removeAfterMs);
    if (!next) return;
    const leftMs = lastActiveAt + next.afterMs - Date.now();
    watch.timer = setTimeout(
      () => {
        if (lastActiveAt + next.afterMs > Date.now()) this.#arm(boxId, watch);
        else this.#expire(boxId, watch, next.what);
      },
      Math.min(Math.max(leftMs, 0), maxDelayMs),
    ).unref();
  }

  #next(
    stopAfterMs: number,
    removeAfterMs: number,
  ): { afterMs: number; what: 'stop' | 'remove' } | undefined {
    if (stopAfterMs > 0) return { afterMs: stopAfterMs, what: 'stop' };
    if (removeAfterMs > 0) return { afterMs: removeAfterMs, what: 'remove' };
    return undefined;
  }

  #expire(boxId: string, watch: Watch, what: 'stop' | 'remove'): void {
    // After the stop only the removal is left, counted from the same last use.
    if (what === 'stop') watch.policy = { ...watch.policy, stopAfterMs: 0 };
    this.#due(boxId, what);
    if (what === 'stop') this.#arm(boxId, watch);
  }
}
