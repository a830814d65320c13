import { EventEmitter, once } from 'node:events';
import type { EventsOptions, RuntimeEvent } from '../../api/index.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';

/** A change, and whose it is. */
export type OwnedEvent = Omit<RuntimeEvent, 'at' | 'position'> & { readonly tenant: string };

/** Events kept for readers that come back, and for readers that are slow; a busy engine makes a few hundred a second. */
const maxKept = 10_000;
/** Nobody is expected to come back later than this. */
const maxAgeMs = 60 * 60 * 1000;
/** Entries dropped from the front before the array is cut, so that dropping one costs nothing. */
const cutAfter = 1_024;

interface Entry {
  readonly number: number;
  readonly event: RuntimeEvent;
}

/** Bounds of an {@link EventLog}; others than the default are for tests. */
export interface EventLogLimits {
  /** @default 10000 */
  readonly maxKept?: number;
  /** Milliseconds. @default 3600000 */
  readonly maxAgeMs?: number;
}

/**
 * The latest events of one tenant, numbered, in memory; numbers over all tenants would tell what the others do. Readers are positions in the log: a slow one costs nothing, and
 * one that comes back continues where it was, as long as the log reaches so far. A position names the engine's run, since
 * numbers begin again with every run.
 */
export class EventLog {
  readonly #run = newId('run');
  readonly #added = new EventEmitter<{ added: [] }>().setMaxListeners(0);
  readonly #limits: Required<EventLogLimits>;
  #entries: Entry[] = [];
  /** Index of the oldest entry that is still kept. */
  #first = 0;
  /** Number of the newest event; 0: none yet. */
  #last = 0;

  constructor(limits: EventLogLimits = {}) {
    this.#limits = { maxKept, maxAgeMs, ...limits };
  }

  /** Adds an event and wakes the readers. */
  add(facts: Omit<OwnedEvent, 'tenant'>): void {
    this.#last += 1;
    const position = `${this.#run}.${this.#last}`;
    this.#entries.push({
      number: this.#last,
      event: Object.freeze({ at: new Date(), ...facts, position }),
    });
    this.#drop();
    this.#added.emit('added');
  }

  /**
   * Events that come after a position (default: after this call), until the signal aborts. Fails with
   * `invalid_argument` for text that is no position, with `position_gone` when events after it are no longer kept.
   */
  read(since: string | undefined, signal: AbortSignal): AsyncGenerator<RuntimeEvent> {
    // The reader's place is taken now, not when it first asks: nothing between is missed.
    return this.#follow(since, this.#last, signal);
  }

  async *#follow(since: string | undefined, now: number, signal: AbortSignal): AsyncGenerator<RuntimeEvent> {
    let after = since === undefined ? now : this.#numberOf(since);
    while (!signal.aborted) {
      this.#drop();
      const oldest = this.#entries[this.#first]?.number ?? this.#last + 1;
      if (after + 1 < oldest) throw this.#gone(`${this.#run}.${after}`);
      const next = this.#entries[this.#first + (after + 1 - oldest)];
      if (!next) {
        // Rejects only by the signal, which ends the loop.
        await once(this.#added, 'added', { signal }).catch(() => undefined);
        continue;
      }
      after = next.number;
      yield next.event;
    }
  }

  #numberOf(position: string): number {
    const parts = /^(run_[0-9a-z]+)\.(\d{1,15})$/.exec(position);
    if (!parts) {
      throw new CryoboxError('invalid_argument', `since: ${JSON.stringify(position)} is no position`, {
        hint: 'Pass the position of an event as it was given.',
        details: { field: 'since' },
      });
    }
    const number = Number(parts[2]);
    if (parts[1] !== this.#run || number > this.#last) throw this.#gone(position);
    return number;
  }

  #gone(position: string): CryoboxError {
    return new CryoboxError('position_gone', `the events after position ${position} are no longer kept`, {
      details: { position },
    });
  }

  /** Lets go of what is too old or too much. */
  #drop(): void {
    const { maxKept: most, maxAgeMs: age } = this.#limits;
    const tooOld = Date.now() - age;
    while (
      this.#first < this.#entries.length &&
      (this.#entries.length - this.#first > most ||
        (this.#entries[this.#first]?.event.at.getTime() ?? 0) < tooOld)
    ) {
      this.#first += 1;
    }
    if (this.#first >= cutAfter) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }
}

/** The event logs of all tenants of an engine. */
export class Events {
  readonly #logs = new Map<string, EventLog>();

  /** The log of a tenant. */
  of(tenant: string): EventLog {
    let log = this.#logs.get(tenant);
    if (!log) {
      log = new EventLog();
      this.#logs.set(tenant, log);
    }
    return log;
  }
}

/** Notifies the listeners of a change. */
export function tell({ events }: { readonly events: Events }, { tenant, ...event }: OwnedEvent): void {
  events.of(tenant).add(event);
}

/** Changes of what belongs to a tenant, until the signal or the engine's end. Errors of {@link EventLog.read}. */
export function eventsOf(
  { events, closing }: { readonly events: Events; readonly closing: AbortController },
  tenant: string,
  { signal, since }: EventsOptions,
): AsyncGenerator<RuntimeEvent> {
  return events.of(tenant).read(since, AbortSignal.any([closing.signal, ...(signal ? [signal] : [])]));
}
