import { setTimeout as delay } from 'node:timers/promises';
import type { ByteSource, EventsOptions, RuntimeEvent } from '../api/index.js';
import { isCryoboxError } from '../errors.js';
import { ndjson } from '../wire/media.js';
import { eventFromJson } from '../wire/runtime.js';
import { jsonLines } from './lines.js';
import type { Transport } from './transport.js';

/** Waits after streams that broke in a row without an event; reaching a server that restarts is the transport's work. */
const reconnectDelaysMs = [50, 200, 500, 1_000, 2_000, 4_000];
/** Errors of a connection, after which another one may do better. */
const ofConnection = new Set(['network_unavailable', 'upstream_unavailable']);

/**
 * The events of a server. A connection that breaks is made again, and goes on after the last event that came; where none
 * has come yet, from then on. Fails with `position_gone` when the server no longer keeps what was missed.
 */
export async function* followEvents(
  transport: Transport,
  { signal, since }: EventsOptions,
): AsyncGenerator<RuntimeEvent> {
  let position = since;
  const open = (): Promise<ByteSource> =>
    transport.bytes({ method: 'GET', path: '/events', query: { since: position }, accept: ndjson, signal });
  try {
    for (let breaks = 0; ; breaks += 1) {
      const source = await open();
      try {
        for await (const line of jsonLines(source)) {
          const event = eventFromJson(line);
          position = event.position === '' ? undefined : event.position;
          breaks = 0;
          yield event;
        }
        // The server has ended the stream: it is closing.
        if (reconnectDelaysMs[breaks] === undefined) return;
      } catch (error) {
        const mayPass = isCryoboxError(error) && ofConnection.has(error.code);
        if (!mayPass || reconnectDelaysMs[breaks] === undefined) throw error;
      }
      await delay(reconnectDelaysMs[breaks], undefined, { signal }).catch(() => undefined);
      if (signal?.aborted) return;
    }
  } catch (error) {
    if (!isCryoboxError(error, 'cancelled')) throw error;
  }
}
