import type { RuntimeMetrics } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import { Mutex } from '../../base/mutex.js';
import { messageOf } from '../../errors.js';
import { addCounts, type BoxCounts, type Database, readCounters } from '../../store/index.js';

/** What is counted per tenant since the home was made. */
export type CounterName = Exclude<keyof RuntimeMetrics, 'runningBoxes' | 'uses'>;

const names: readonly CounterName[] = [
  'boxesCreatedTotal',
  'boxesFailedTotal',
  'boxesStoppedTotal',
  'commandsExecutedTotal',
  'execErrorsTotal',
];

/** Counts are written together, so that an exec does not wait for the disk; a crash loses the last few seconds. */
const flushDelayMs = 2_000;

const keyOf = (tenant: string, name: string): string => `${tenant}/${name}`;

/** Counters of tenants and boxes. */
export class Counters {
  readonly #db: Database;
  readonly #logger: Logger;
  #tenants = new Map<string, number>();
  #boxes = new Map<string, BoxCounts>();
  #timer: NodeJS.Timeout | undefined;
  /** Who reads waits for what is being written. */
  readonly #writing = new Mutex();

  constructor(db: Database, logger: Logger) {
    this.#db = db;
    this.#logger = logger;
  }

  /** Counts one more for a tenant. */
  add(tenant: string, name: CounterName): void {
    const key = keyOf(tenant, name);
    this.#tenants.set(key, (this.#tenants.get(key) ?? 0) + 1);
    this.#flushSoon();
  }

  /** Counts what a box did. */
  addToBox(boxId: string, more: Partial<BoxCounts>): void {
    const counts = this.#boxes.get(boxId) ?? { commands: 0, execErrors: 0, bytesSent: 0, bytesReceived: 0 };
    for (const [name, value] of Object.entries(more) as [keyof BoxCounts, number][]) counts[name] += value;
    this.#boxes.set(boxId, counts);
    this.#flushSoon();
  }

  /** All counters of a tenant. */
  async read(tenant: string): Promise<Record<CounterName, number>> {
    await this.flush();
    const keys = names.map((name) => keyOf(tenant, name));
    const values = await readCounters(this.#db, keys);
    const entries = names.map((name) => [name, values.get(keyOf(tenant, name)) ?? 0] as const);
    return Object.fromEntries(entries) as Record<CounterName, number>;
  }

  /** Writes what was counted. */
  flush(): Promise<void> {
    return this.#writing.run(() => this.#write());
  }

  async #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const [tenants, boxes] = [this.#tenants, this.#boxes];
    [this.#tenants, this.#boxes] = [new Map(), new Map()];
    if (tenants.size === 0 && boxes.size === 0) return;
    await addCounts(this.#db, tenants, boxes);
  }

  #flushSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.flush().catch((error: unknown) => {
        this.#logger.warn('cannot write the counters', { reason: messageOf(error) });
      });
    }, flushDelayMs).unref();
  }
}
