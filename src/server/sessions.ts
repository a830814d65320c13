import type { Box, Execution } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { messageOf } from '../errors.js';

/** What an orphan gets, and how long it has for each (v1 contract, section 1.6). */
const farewell = ['SIGHUP', 'SIGTERM', 'SIGKILL'] as const;
const graceMs = 30_000;

interface Posted {
  readonly box: Box;
  /** Set until the first attach: keeps the output from being dropped. */
  execution: Execution | undefined;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Executions made by `POST {p}/boxes/{id}/exec`, whose streams a second request takes. Until then they are held
 * here, so that no output is lost; one nobody comes back to is ended after a while.
 */
export class Sessions {
  readonly #posted = new Map<string, Posted>();
  readonly #attachWaitMs: number;
  readonly #orphanMs: number | null;
  readonly #logger: Logger;

  constructor(options: { attachWaitMs: number; orphanMs: number | null; logger: Logger }) {
    this.#attachWaitMs = options.attachWaitMs;
    this.#orphanMs = options.orphanMs;
    this.#logger = options.logger;
  }

  /** Keeps a new execution until it is taken. */
  hold(box: Box, execution: Execution): void {
    const posted: Posted = { box, execution, timer: undefined };
    this.#posted.set(execution.id, posted);
    this.#after(posted, this.#attachWaitMs, async () => {
      posted.execution = undefined;
      await execution.detach();
      this.release(execution.id);
    });
  }

  /** The held execution of that box; the caller owns it then. Undefined when it is not held. */
  take(boxId: string, executionId: string): Execution | undefined {
    const posted = this.#posted.get(executionId);
    if (posted?.box.id !== boxId) return undefined;
    clearTimeout(posted.timer);
    const { execution } = posted;
    posted.execution = undefined;
    return execution;
  }

  /** Says that nobody reads an execution any more: it is ended when nobody comes back in time. */
  release(executionId: string): void {
    const posted = this.#posted.get(executionId);
    if (!posted) return;
    if (this.#orphanMs === null) this.#posted.delete(executionId);
    else this.#after(posted, this.#orphanMs, () => this.#farewell(executionId, posted, 0));
  }

  /** Says that an execution has ended. */
  ended(executionId: string): void {
    clearTimeout(this.#posted.get(executionId)?.timer);
    this.#posted.delete(executionId);
  }

  /** Lets go of everything held; the commands go on. */
  async close(): Promise<void> {
    const all = [...this.#posted.values()];
    this.#posted.clear();
    for (const posted of all) clearTimeout(posted.timer);
    await Promise.allSettled(all.map(async (posted) => posted.execution?.detach()));
  }

  async #farewell(executionId: string, posted: Posted, step: number): Promise<void> {
    const info = await posted.box.executions.get(executionId);
    const signal = farewell[step];
    if (info?.status !== 'running' || signal === undefined) {
      this.#posted.delete(executionId);
      return;
    }
    if (info.attached) return this.release(executionId);
    this.#logger.info('ending an execution nobody attached to', { executionId, signal });
    await posted.box.executions.signal(executionId, signal);
    this.#after(posted, graceMs, () => this.#farewell(executionId, posted, step + 1));
  }

  #after(posted: Posted, ms: number, task: () => Promise<void>): void {
    clearTimeout(posted.timer);
    posted.timer = setTimeout(() => {
      task().catch((error: unknown) => {
        this.#logger.warn('an execution could not be let go', { error: messageOf(error) });
      });
    }, ms);
    posted.timer.unref();
  }
}
