import { EventEmitter } from 'node:events';
import type { RuntimeEvent } from '../api/index.js';
import { CryoboxError } from '../errors.js';

/** A change, and whose it is. */
type OwnedEvent = RuntimeEvent & { readonly tenant: string };

/** Where changes are told. */
export type Changes = EventEmitter<{ change: [OwnedEvent] }>;

/** A new place, without limit of listeners: each request for events is one. */
export function newChanges(): Changes {
  return new EventEmitter<{ change: [OwnedEvent] }>().setMaxListeners(0);
}

/** Changes that wait for one listener; a busy engine makes a few hundred a second. */
const maxWaiting = 10_000;

/** Tells who listens of a change. */
export function tell({ events }: { readonly events: Changes }, event: Omit<OwnedEvent, 'at'>): void {
  events.emit('change', { at: new Date(), ...event });
}

/** Changes of what belongs to a tenant, until the signal or the engine's end. `resource_exhausted` for who does not keep up. */
export async function* eventsOf(
  { events, closing }: { readonly events: Changes; readonly closing: AbortController },
  tenant: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<RuntimeEvent> {
  const ended = AbortSignal.any([closing.signal, ...(signal ? [signal] : [])]);
  const waiting: RuntimeEvent[] = [];
  let wake = (): void => undefined;
  const onChange = ({ tenant: owner, ...event }: OwnedEvent): void => {
    if (owner === tenant && waiting.length <= maxWaiting) waiting.push(event);
    wake();
  };
  const onEnd = (): void => wake();
  events.on('change', onChange);
  ended.addEventListener('abort', onEnd, { once: true });
  try {
    while (!ended.aborted) {
      if (waiting.length > maxWaiting) {
        throw new CryoboxError('resource_exhausted', `more than ${maxWaiting} events were not read`);
      }
      const next = waiting.shift();
      if (next) {
        yield next;
        continue;
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    events.off('change', onChange);
    ended.removeEventListener('abort', onEnd);
  }
}
