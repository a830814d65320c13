import { z } from 'zod';
import { portToJson, publishFromJson } from '../../wire/ports.js';
import { boxParams, queryNumber } from '../http/common-schemas.js';
import { boxOf, empty, ok, type Route, route } from '../http/route.js';
import { publishRequest } from './schemas/box.js';
import { anyObject } from './schemas/resources.js';

/** Ports of the server's host that lead to a box. They are the host's, so that changing them needs `admin`. */
export const portRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/boxes/:id/ports',
    operation: 'listPorts',
    summary: 'The published ports of a box',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const ports = await (await boxOf(call)).ports.list({ signal: call.signal });
      return ok({ ports: ports.map(portToJson) });
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/ports',
    operation: 'publishPort',
    summary: "Have a port of the server's host lead to one of the box",
    scope: 'admin',
    params: boxParams,
    body: publishRequest,
    answer: { status: 201, body: anyObject },
    handle: async (call) => {
      const options = { ...publishFromJson(call.body), signal: call.signal };
      return ok(portToJson(await (await boxOf(call)).ports.publish(options)), 201);
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id/ports/:port',
    operation: 'unpublishPort',
    summary: "End a published port, by its number on the server's host",
    scope: 'admin',
    params: boxParams.extend({ port: queryNumber(1, 65_535) }),
    query: z.strictObject({ host_ip: z.string().max(64).optional() }),
    answer: { status: 204 },
    handle: async (call) => {
      const { signal, params, query } = call;
      await (await boxOf(call)).ports.unpublish(params.port, { signal, hostIp: query.host_ip });
      return empty;
    },
  }),
];
