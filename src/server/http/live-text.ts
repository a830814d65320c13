import { withPauses } from '../../base/pauses.js';

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
  for await (const item of withPauses(items, heartbeatMs)) {
    if (item === undefined) {
      yield heartbeat;
      continue;
    }
    const text = JSON.stringify(item.json);
    yield Buffer.from(sse ? `id: ${item.id}\nevent: ${item.event}\ndata: ${text}\n\n` : `${text}\n`);
  }
}
