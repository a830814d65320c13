import type { RuntimeEvent } from '../../api/index.js';
import { boxMetricsToJson } from '../../wire/box.js';
import { ndjson } from '../../wire/media.js';
import { eventToJson, gcResultToJson, runtimeMetricsToJson, verifyResultToJson } from '../../wire/runtime.js';
import { boxOf, ok, type Route, route } from '../route.js';
import { boxParams } from '../schemas/common.js';
import { anyObject, gcRequest } from '../schemas/resources.js';

const eventStream = 'text/event-stream';
/** Keeps what lies between client and server from closing a quiet stream. */
const heartbeatMs = 15_000;

/** Events as text; an empty line, or a comment, at once and while nothing happens. */
async function* eventText(events: AsyncIterable<RuntimeEvent>, sse: boolean): AsyncGenerator<Uint8Array> {
  const heartbeat = Buffer.from(sse ? ': alive\n\n' : '\n');
  const iterator = events[Symbol.asyncIterator]();
  let pending = iterator.next();
  try {
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
      const text = JSON.stringify(eventToJson(next.value));
      yield Buffer.from(sse ? `event: ${next.value.kind}\ndata: ${text}\n\n` : `${text}\n`);
      pending = iterator.next();
    }
  } finally {
    pending.catch(() => undefined);
    await iterator.return?.();
  }
}

/** What happens, and housekeeping. */
export const observeRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/metrics',
    operation: 'getMetrics',
    summary: 'Counters of the runtime',
    scope: 'box:read',
    answer: { status: 200, body: anyObject },
    handle: async (call) => ok(runtimeMetricsToJson(await call.runtime.metrics({ signal: call.signal }))),
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/metrics',
    operation: 'getBoxMetrics',
    summary: 'Counters and gauges of a box',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: anyObject },
    handle: async (call) => ok(boxMetricsToJson(await (await boxOf(call)).metrics({ signal: call.signal }))),
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/console',
    operation: 'getConsole',
    summary: "The last lines of the machine's console",
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: anyObject },
    handle: async (call) => ok({ console: await (await boxOf(call)).consoleLog({ signal: call.signal }) }),
  }),
  route({
    method: 'GET',
    path: '/events',
    operation: 'streamEvents',
    summary: 'Changes as they happen: lines of JSON, or server-sent events',
    scope: 'box:read',
    answer: { status: 200, body: ndjson },
    handle: async (call) => {
      const sse = call.headers.accept?.includes(eventStream) ?? false;
      const events = call.runtime.events({ signal: call.signal });
      return { bytes: eventText(events, sse), contentType: sse ? eventStream : ndjson };
    },
  }),
  route({
    method: 'POST',
    path: '/gc',
    operation: 'collectGarbage',
    summary: 'Delete what nothing holds',
    scope: 'admin',
    body: gcRequest,
    answer: { status: 200, body: anyObject },
    handle: async (call) =>
      ok(gcResultToJson(await call.runtime.gc({ dryRun: call.body.dry_run, signal: call.signal }))),
  }),
  route({
    method: 'POST',
    path: '/verify',
    operation: 'verify',
    summary: 'Check layers, disks and the database',
    scope: 'admin',
    answer: { status: 200, body: anyObject },
    progress: true,
    handle: async (call, onProgress) =>
      ok(verifyResultToJson(await call.runtime.verify({ onProgress, signal: call.signal }))),
  }),
];
