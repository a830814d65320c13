import { Readable } from 'node:stream';
import type { RuntimeEvent, TreeNode } from '../../api/index.js';
import { boxMetricsToJson } from '../../wire/box.js';
import { ndjson, octets } from '../../wire/media.js';
import { networkFromJson, networkInfoToJson } from '../../wire/network.js';
import { eventToJson, gcResultToJson, runtimeMetricsToJson, verifyResultToJson } from '../../wire/runtime.js';
import { seriesToJson } from '../../wire/series.js';
import { treeToJson } from '../../wire/tree.js';
import { boxParams } from '../http/common-schemas.js';
import { eventStream, type LiveItem, lastEventId, liveText, wantsEvents } from '../http/live-text.js';
import { boxOf, ok, type Route, route } from '../http/route.js';
import { peek as begun } from '../http/streams.js';
import { networkRequest } from './schemas/box.js';
import { anyObject, eventsQuery, gcRequest, logsQuery, seriesQuery } from './schemas/resources.js';

async function* told(events: AsyncIterable<RuntimeEvent>): AsyncGenerator<LiveItem> {
  for await (const event of events) {
    yield { id: event.position, event: event.kind, json: eventToJson(event) };
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
    path: '/tree',
    operation: 'getTree',
    summary: 'All states, and what each descends from',
    scope: 'box:read',
    answer: { status: 200, body: anyObject },
    handle: async ({ runtime, principal, signal }) => {
      const nodes = await runtime.tree({ signal });
      // What lists of their own show is for who may read those.
      const seen = ({ kind }: TreeNode): boolean =>
        (kind !== 'image' && kind !== 'template') || principal.scopes.includes(`${kind}:read`);
      return ok(treeToJson(nodes.filter(seen)));
    },
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
    path: '/boxes/:id/metrics/series',
    operation: 'getBoxSeries',
    summary: 'What a box used over the last hour',
    scope: 'box:read',
    params: boxParams,
    query: seriesQuery,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const { since } = call.query;
      const options = { since: since === undefined ? undefined : new Date(since), signal: call.signal };
      return ok(seriesToJson(await (await boxOf(call)).metricsSeries(options)));
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/network',
    operation: 'getNetwork',
    summary: 'The network of a box: its lists, what went through, what was refused',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: anyObject },
    handle: async (call) =>
      ok(networkInfoToJson(await (await boxOf(call)).network.info({ signal: call.signal }))),
  }),
  route({
    method: 'PUT',
    path: '/boxes/:id/network',
    operation: 'updateNetwork',
    summary: 'Give a box another network: what is left out has its default',
    scope: 'box:write',
    params: boxParams,
    body: networkRequest,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const options = { ...networkFromJson(call.body), signal: call.signal };
      return ok(networkInfoToJson(await (await boxOf(call)).network.update(options)));
    },
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
    path: '/boxes/:id/logs',
    operation: 'getLogs',
    summary: 'What the main command has written to one output: the last 256 KiB',
    scope: 'box:read',
    params: boxParams,
    query: logsQuery,
    answer: { status: 200, body: octets },
    handle: async (call) => {
      const written = await (await boxOf(call)).mainOutput({ signal: call.signal });
      const { output = 'stdout' } = call.query;
      return { bytes: Readable.from([written[output]]), contentType: octets };
    },
  }),
  route({
    method: 'GET',
    path: '/events',
    operation: 'streamEvents',
    summary: 'Changes as they happen: lines of JSON, or server-sent events',
    scope: 'box:read',
    query: eventsQuery,
    answer: { status: 200, body: ndjson },
    passive: true,
    handle: async (call) => {
      const sse = wantsEvents(call.headers.accept);
      const since = call.query.since ?? lastEventId(call.headers);
      const events = call.runtime.events({ signal: call.signal, since });
      return { bytes: await begun(liveText(told(events), sse)), contentType: sse ? eventStream : ndjson };
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
