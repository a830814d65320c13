/** Longest delay a timer takes, 24.8 days (Node: setTimeout); later deadlines are reached in steps. */
const maxDelayMs = 2 ** 31 - 1;
/** What could not be done at its time is tried again after 1 s, then twice as long each time, up to 5 minutes. */
const firstRetryMs = 1_000;
const maxRetryMs = 300_000;

/** What {@link Deadlines} are for. */
export interface DeadlineTask {
  /** When something is due, in milliseconds since 1970; undefined: not at all. Asked again whenever a timer ends. */
  dueAt(key: string): number | undefined;
  /** Does what is due. When it rejects it is called again later. */
  run(key: string): Promise<void>;
  /** Is told why `run` failed, and in how many milliseconds it is called again. */
  failed(key: string, error: unknown, retryMs: number): void;
}

interface Deadline {
  timer?: NodeJS.Timeout | undefined;
  isRunning: boolean;
  failures: number;
}

/** Does something to each of many things when its time has come. One timer a thing that has a time; nothing polls. */
export class Deadlines {
  readonly #task: DeadlineTask;
  readonly #deadlines = new Map<string, Deadline>();
  readonly #running = new Set<Promise<void>>();
  #isClosed = false;

  constructor(task: DeadlineTask) {
    this.#task = task;
  }

  /** To be called when something becomes due at another time than before. */
  changed(key: string): void {
    const deadline = this.#deadlines.get(key);
    if (deadline) deadline.failures = 0;
    this.#arm(key, 0);
  }

  /** Sets no more timers, and waits for what is being done. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { timer } of this.#deadlines.values()) clearTimeout(timer);
    await Promise.all(this.#running);
    this.#deadlines.clear();
  }

  #arm(key: string, notBeforeMs: number): void {
    const known = this.#deadlines.get(key);
    clearTimeout(known?.timer);
    // What runs now sets the next timer at its end.
    if (this.#isClosed || known?.isRunning) return;
    const dueAt = this.#task.dueAt(key);
    if (dueAt === undefined) {
      this.#deadlines.delete(key);
      return;
    }
    const deadline = known ?? { isRunning: false, failures: 0 };
    this.#deadlines.set(key, deadline);
    const leftMs = Math.max(dueAt - Date.now(), notBeforeMs, 0);
    deadline.timer = setTimeout(() => this.#expire(key, deadline), Math.min(leftMs, maxDelayMs)).unref();
  }

  #expire(key: string, deadline: Deadline): void {
    const dueAt = this.#task.dueAt(key);
    if (dueAt === undefined || dueAt > Date.now()) {
      this.#arm(key, 0);
      return;
    }
    deadline.isRunning = true;
    const running = this.#run(key, deadline).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #run(key: string, deadline: Deadline): Promise<void> {
    let retryMs = 0;
    try {
      await this.#task.run(key);
      deadline.failures = 0;
    } catch (error) {
      retryMs = Math.min(firstRetryMs * 2 ** deadline.failures, maxRetryMs);
      deadline.failures += 1;
      this.#task.failed(key, error, retryMs);
    }
    deadline.isRunning = false;
    this.#arm(key, retryMs);
  }
}
