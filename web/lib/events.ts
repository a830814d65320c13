/** What happens in the engine, as it happens: one stream for all pages. */
import { ask, jsonLines } from './api.ts';
import { ApiError } from './errors.ts';
import type { EventJson } from './types.ts';
import { createValue } from './value.ts';

/** Whether changes come in. */
export const connection = createValue<'connecting' | 'live' | 'lost'>('connecting');

/** The latest events, newest first. */
export const recentEvents = createValue<readonly EventJson[]>([]);

const mostRecent = 500;
const retryMs = 1000;
const listeners = new Set<Listener>();

/** Who hears of changes. */
export interface Listener {
  /** Something happened. */
  event(event: EventJson): void;
  /** Events are missing, or come for the first time: what is shown has to be read anew. */
  reset(): void;
}

/** Hears of changes until the result is called. */
export function listenToEvents(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Follows the events, over restarts of the server, until the signal says so. */
export async function followEvents(signal: AbortSignal): Promise<void> {
  let since: string | undefined;
  while (!signal.aborted) {
    try {
      const query = since === undefined ? '' : `?since=${encodeURIComponent(since)}`;
      const answer = await ask(`/events${query}`, { signal });
      if (since === undefined) for (const each of listeners) each.reset();
      connection.set('live');
      for await (const line of jsonLines(answer)) {
        const event = line as EventJson;
        since = event.position;
        recentEvents.set([event, ...recentEvents.get()].slice(0, mostRecent));
        for (const each of listeners) each.event(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      // Of an engine that has ended, or too long ago.
      if (error instanceof ApiError && error.code === 'position_gone') {
        since = undefined;
        continue;
      }
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) return;
    }
    if (signal.aborted) return;
    connection.set('lost');
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}
