import { z } from 'zod';
import { boxOf, ok, type Route, route } from '../route.js';
import { boxParams, queryNumber } from '../schemas/common.js';
import { anyObject } from '../schemas/resources.js';

/** Tunnels by HTTP CONNECT (v1 contract, section 1.8). */
export const tunnelRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/:id/network/tunnel',
    operation: 'openTunnel',
    summary: 'Where to send CONNECT to reach a port of the box',
    scope: 'box:exec',
    params: boxParams,
    query: z.strictObject({ port: queryNumber(1, 65_535) }),
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const box = await boxOf(call);
      const origin = { socket: call.socket, host: call.headers.host };
      return ok({ uri: await call.parts.tunnels.open(box, call.query.port, origin) });
    },
  }),
];
