import type { Box } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { messageOf } from '../errors.js';
import type { Reel } from './reel.js';

/** What an orphan gets, and how long it has for each (v1 contract, section 1.6). */
const farewell = ['SIGHUP', 'SIGTERM', 'SIGKILL'] as const;
const graceMs = 30_000;

interface Known {
  readonly box: Box;
  /** While nobody follows it: keeps its output from being dropped. */
  reel: Reel | undefined;
  timer: NodeJS.Timeout | undefined;
  /** Whether it is ended when nobody comes back: it was made by a request that could not follow it. */
  readonly reap: boolean;
}

/**
 * Commands between two requests: made by `POST {p}/boxes/{id}/exec` and not attached to yet, or left by a connection
 * that broke. Their streams are held here for a while, so that no output is lost; one nobody comes back to is ended
 * in the end.
 */
export class Sessions {
  readonly #known = new Map<string, Known>();
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
    const known: Known = { box, reel, timer: earlier?.timer, reap: reap || earlier?.reap === true };
    this.#known.set(id, known);
    this.#after(known, this.#attachWaitMs, async () => {
      known.reel = undefined;
      await reel.execution.detach();
      this.release(id);
    });
  }

  /** The held command of that box; the caller owns it then. Undefined when it is not held. */
  take(boxId: string, executionId: string): Reel | undefined {
    const known = this.#known.get(executionId);
    if (known?.box.id !== boxId) return undefined;
    clearTimeout(known.timer);
    const { reel } = known;
    known.reel = undefined;
    return reel;
  }

  /** Says that nobody reads an execution any more: it is ended when nobody comes back in time. */
  release(executionId: string): void {
    const known = this.#known.get(executionId);
    if (!known) return;
    if (this.#orphanMs === null || !known.reap) this.#known.delete(executionId);
    else this.#after(known, this.#orphanMs, () => this.#farewell(executionId, known, 0));
  }

  /** Says that an execution has ended. */
  ended(executionId: string): void {
    clearTimeout(this.#known.get(executionId)?.timer);
    this.#known.delete(executionId);
  }

  /** Lets go of everything held; the commands go on. */
  async close(): Promise<void> {
    const all = [...this.#known.values()];
    this.#known.clear();
    for (const known of all) clearTimeout(known.timer);
    await Promise.allSettled(all.map(async (known) => known.reel?.execution.detach()));
  }

  async #farewell(executionId: string, known: Known, step: number): Promise<void> {
    const info = await known.box.executions.get(executionId);
    const signal = farewell[step];
    if (info?.status !== 'running' || signal === undefined) {
      this.#known.delete(executionId);
      return;
    }
    if (info.attached) return this.release(executionId);
    this.#logger.info('ending an execution nobody attached to', { executionId, signal });
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
