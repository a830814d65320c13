import { z } from 'zod';
import { doesNotRun } from '../../base/not-running.js';
import { CryoboxError } from '../../errors.js';
import { networkFromJson, networkInfoToJson } from '../../wire/network.js';
import { boxParams, openQuery, queryNumber } from '../http/common-schemas.js';
import { boxOf, empty, ok, type Route, route } from '../http/route.js';
import { outboundRequest } from './schemas/box.js';
import { anyObject } from './schemas/resources.js';

const portQuery = openQuery({ port: queryNumber(1, 65_535) });

/** Addresses of ports of boxes, and who reaches what (v1 contract, section 1.8, and BoxLite's routes since then). */
export const tunnelRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/:id/network/tunnel',
    operation: 'openTunnel',
    summary: 'Where a port of the box is reached, by CONNECT and by HTTP: the same until it is revoked',
    scope: 'box:exec',
    params: boxParams,
    query: portQuery,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const box = await boxOf(call);
      const { status } = await box.info({ signal: call.signal });
      if (status !== 'running') throw doesNotRun('a tunnel', { id: box.id, status });
      const { inbound } = await box.network.info({ signal: call.signal });
      const { socket, headers, principal, authorization } = call;
      const isPublic = inbound === 'public';
      const origin = { socket, host: headers.host, tenant: principal.tenant, authorization, isPublic };
      return ok(await call.parts.tunnels.open(box, call.query.port, origin));
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id/network/tunnel',
    operation: 'revokeTunnel',
    summary: 'End the addresses of a port of the box, and what goes through them',
    scope: 'box:exec',
    params: boxParams,
    query: portQuery,
    answer: { status: 204 },
    handle: async (call) => {
      const box = await boxOf(call);
      call.parts.tunnels.revoke(box.id, call.query.port);
      const { inbound } = await box.network.info({ signal: call.signal });
      if (inbound === 'private') return empty;
      throw new CryoboxError('invalid_state', 'the ports of the box are public: everybody reaches them', {
        hint: 'Make them private: PUT boxes/{id}/network/inbound with {"mode": "disabled"}.',
        details: { box: box.id },
      });
    },
  }),
  route({
    method: 'PUT',
    path: '/boxes/:id/network/inbound',
    operation: 'setInbound',
    summary: 'Make the ports of the box public (enabled), or private (disabled)',
    scope: 'box:exec',
    params: boxParams,
    body: z.strictObject({ mode: z.enum(['enabled', 'disabled']) }),
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const { network } = await boxOf(call);
      const access = call.body.mode === 'enabled' ? 'public' : 'private';
      return ok(networkInfoToJson(await network.setInbound(access, { signal: call.signal })));
    },
  }),
  route({
    method: 'PUT',
    path: '/boxes/:id/network/outbound',
    operation: 'setOutbound',
    summary: 'Give a box other lists: what is left out has its default',
    scope: 'box:write',
    params: boxParams,
    body: outboundRequest,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const { network } = await boxOf(call);
      const { signal } = call;
      // Of the other settings it says nothing.
      const { rateLimit } = await network.info({ signal });
      const options = {
        ...networkFromJson({ outbound: call.body }),
        ...(rateLimit && { rateLimit }),
        signal,
      };
      return ok(networkInfoToJson(await network.update(options)));
    },
  }),
];
