import { setImmediate } from 'node:timers/promises';

/** Media type of server-sent events. */
export const eventStream = 'text/event-stream';

/** Keeps what lies between client and server from closing a quiet stream. */
const heartbeatMs = 15_000;

/** One thing in a stream that is told as it happens. */
export interface LiveItem {
  /** With which a client that comes back says where it was. */
  readonly id: string;
  readonly event: string;
  readonly json: unknown;
}

/** Whether the client wants server-sent events, and not lines of JSON. */
export function wantsEvents(accept: string | undefined): boolean {
  return accept?.includes(eventStream) ?? false;
}

/** The id that a browser's EventSource saw last, when it connects again. */
export function lastEventId(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): string | undefined {
  const value = headers['last-event-id'];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Items as text; an empty line, or a comment, at once and while nothing happens. */
export async function* liveText(items: AsyncIterable<LiveItem>, sse: boolean): AsyncGenerator<Uint8Array> {
  const heartbeat = Buffer.from(sse ? ': alive\n\n' : '\n');
  const iterator = items[Symbol.asyncIterator]();
  let pending = iterator.next();
  // It is waited for when the client has taken the first bytes; a failure until then is not an unhandled one.
  pending.catch(() => undefined);
  try {
    // What is wrong with the request is known by now, before the answer begins.
    await Promise.race([pending, setImmediate()]);
    yield heartbeat;
    for (;;) {
      let timer: NodeJS.Timeout | undefined;
      const quiet = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), heartbeatMs);
      });
      const next = await Promise.race([pending, quiet]);
      clearTimeout(timer);
      if (next === undefined) {
        yield heartbeat;
        continue;
      }
      if (next.done) return;
      const { id, event, json } = next.value;
      const text = JSON.stringify(json);
      yield Buffer.from(sse ? `id: ${id}\nevent: ${event}\ndata: ${text}\n\n` : `${text}\n`);
      pending = iterator.next();
      pending.catch(() => undefined);
    }
  } finally {
    pending.catch(() => undefined);
    await iterator.return?.();
  }
}
