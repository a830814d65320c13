import { LRUCache } from 'lru-cache';
import type { Box } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { messageOf } from '../../errors.js';
import type { Reel } from './reel.js';

/** What an orphan gets, and how long it has for each (v1 contract, section 1.6). */
const farewell = ['SIGHUP', 'SIGTERM', 'SIGKILL'] as const;
const graceMs = 30_000;

/** Commands that were ended because nobody came, whose listing says so; more than boxes list of them. */
const maxRemembered = 4096;

interface Known {
  readonly box: Box;
  /** While nobody follows it: keeps its output from being dropped. */
  reel: Reel | undefined;
  /** The same while somebody follows it. */
  lent: Reel | undefined;
  timer: NodeJS.Timeout | undefined;
  /** Whether it is ended when nobody comes back: it was made by a request that could not follow it. */
  readonly reap: boolean;
  /** Requests that write to its stdin; it is not let go of under them. */
  writers: number;
}

/**
 * Commands between two requests: made by `POST {p}/boxes/{id}/exec` and not attached to yet, or left by a connection
 * that broke. Their streams are held here for a while, so that no output is lost; one nobody comes back to is ended
 * in the end.
 */
export class Sessions {
  readonly #known = new Map<string, Known>();
  readonly #followers = new Map<string, number>();
  readonly #ended = new LRUCache<string, string>({ max: maxRemembered });
  readonly #attachWaitMs: number;
  readonly #orphanMs: number | null;
  readonly #logger: Logger;

  constructor(options: { attachWaitMs: number; orphanMs: number | null; logger: Logger }) {
    this.#attachWaitMs = options.attachWaitMs;
    this.#orphanMs = options.orphanMs;
    this.#logger = options.logger;
  }

  /** Keeps a command until somebody takes it. `reap`: it is ended when nobody does for long. */
  hold(box: Box, reel: Reel, { reap }: { readonly reap: boolean }): void {
    const { id } = reel.execution;
    const earlier = this.#known.get(id);
    const known: Known = {
      box,
      reel,
      lent: undefined,
      timer: earlier?.timer,
      reap: reap || earlier?.reap === true,
      writers: earlier?.reel === reel || earlier?.lent === reel ? earlier.writers : 0,
    };
    this.#known.set(id, known);
    this.#waitForAttach(known, reel);
  }

  /** The held command of that box; the caller owns it then. Undefined when it is not held. */
  take(boxId: string, executionId: string): Reel | undefined {
    const known = this.#known.get(executionId);
    if (known?.box.id !== boxId) return undefined;
    clearTimeout(known.timer);
    if (!known.reel) return undefined;
    known.lent = known.reel;
    known.reel = undefined;
    return known.lent;
  }

  /** Whether a command of that box is held, and can be taken. */
  holds(boxId: string, executionId: string): boolean {
    const known = this.#known.get(executionId);
    return known?.box.id === boxId && known.reel !== undefined;
  }

  /** Runs `task` with a command of that box that is held, or was taken; undefined where there is none. */
  async borrow<T>(
    boxId: string,
    executionId: string,
    task: (reel: Reel) => Promise<T>,
  ): Promise<T | undefined> {
    const known = this.#known.get(executionId);
    const reel = known?.reel ?? known?.lent;
    if (known?.box.id !== boxId || !reel) return undefined;
    const now = (): Known | undefined => this.#known.get(executionId);
    known.writers += 1;
    if (known.reel) clearTimeout(known.timer);
    try {
      return await task(reel);
    } finally {
      const current = now();
      if (current && (current.reel === reel || current.lent === reel)) {
        current.writers -= 1;
        if (current.reel) this.#waitForAttach(current, current.reel);
      }
    }
  }

  /** Says that somebody follows the output of an execution without attaching, until it is disposed of. */
  follow(executionId: string): Disposable {
    this.#followers.set(executionId, (this.#followers.get(executionId) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#followers.get(executionId) ?? 1) - 1;
        if (left > 0) this.#followers.set(executionId, left);
        else this.#followers.delete(executionId);
        this.touch(executionId);
      },
    };
  }

  /** Says that somebody asked for the output of an execution without attaching: its time begins anew. */
  touch(executionId: string): void {
    const known = this.#known.get(executionId);
    if (known && !known.reel && !known.lent) this.release(executionId);
  }

  /** Says that nobody reads an execution any more: it is ended when nobody comes back in time. */
  release(executionId: string): void {
    const known = this.#known.get(executionId);
    if (!known) return;
    known.lent = undefined;
    if (this.#orphanMs === null || !known.reap) this.ended(executionId);
    else this.#after(known, this.#orphanMs, () => this.#farewell(executionId, known, 0));
  }

  /** Says that an execution has ended. */
  ended(executionId: string): void {
    clearTimeout(this.#known.get(executionId)?.timer);
    this.#known.delete(executionId);
  }

  /** Why an execution was ended by this server; undefined for others. */
  whyEnded(executionId: string): string | undefined {
    return this.#ended.get(executionId);
  }

  /** Lets go of everything held; the commands go on. */
  async close(): Promise<void> {
    const all = [...this.#known.values()];
    this.#known.clear();
    for (const known of all) clearTimeout(known.timer);
    await Promise.allSettled(all.map(async (known) => known.reel?.execution.detach()));
  }

  #waitForAttach(known: Known, reel: Reel): void {
    if (known.writers > 0) {
      clearTimeout(known.timer);
      return;
    }
    this.#after(known, this.#attachWaitMs, async () => {
      known.reel = undefined;
      await reel.execution.detach();
      this.release(reel.execution.id);
    });
  }

  async #farewell(executionId: string, known: Known, step: number): Promise<void> {
    const info = await known.box.executions.get(executionId);
    const signal = farewell[step];
    if (info?.status !== 'running' || signal === undefined) {
      this.#known.delete(executionId);
      return;
    }
    if (info.attached || this.#followers.has(executionId)) return this.release(executionId);
    this.#logger.info('ending an execution nobody attached to', { executionId, signal });
    const seconds = Math.round((this.#orphanMs ?? 0) / 1000);
    this.#ended.set(
      executionId,
      `nobody attached to it or asked for its logs for ${seconds} s, so it was sent ${signal}; with "keep": true it goes on`,
    );
    await known.box.executions.signal(executionId, signal);
    this.#after(known, graceMs, () => this.#farewell(executionId, known, step + 1));
  }

  #after(known: Known, ms: number, task: () => Promise<void>): void {
    clearTimeout(known.timer);
    known.timer = setTimeout(() => {
      task().catch((error: unknown) => {
        this.#logger.warn('an execution could not be let go', { error: messageOf(error) });
      });
    }, ms);
    known.timer.unref();
  }
}
