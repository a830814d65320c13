import { doesNotRun } from '../../base/not-running.js';
import { boxParams, openQuery, queryNumber } from '../http/common-schemas.js';
import { boxOf, ok, type Route, route } from '../http/route.js';
import { anyObject } from './schemas/resources.js';

/** Tunnels by HTTP CONNECT (v1 contract, section 1.8). */
export const tunnelRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/:id/network/tunnel',
    operation: 'openTunnel',
    summary: 'Where to send CONNECT to reach a port of the box',
    scope: 'box:exec',
    params: boxParams,
    query: openQuery({ port: queryNumber(1, 65_535) }),
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const box = await boxOf(call);
      const { status } = await box.info({ signal: call.signal });
      if (status !== 'running') throw doesNotRun('a tunnel', { id: box.id, status });
      const { socket, headers, principal, authorization } = call;
      const origin = { socket, host: headers.host, tenant: principal.tenant, authorization };
      return ok({ uri: call.parts.tunnels.open(box, call.query.port, origin) });
    },
  }),
];
