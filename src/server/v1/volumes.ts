import { volumeToJson } from '../../wire/runtime.js';
import { empty, notFound, ok, type Route, route } from '../http/route.js';
import {
  anyObject,
  forceQuery,
  pagedQuery,
  volumeBody,
  volumeParams,
  volumeRequest,
} from './schemas/resources.js';

/** Persistent disks. */
export const volumeRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/volumes',
    operation: 'createVolume',
    summary: 'Make a volume',
    scope: 'volume:write',
    body: volumeRequest,
    answer: { status: 201, body: volumeBody },
    handle: async (call) => {
      const { name, size_gb: sizeGb } = call.body;
      return ok(volumeToJson(await call.runtime.volumes.create({ name, sizeGb, signal: call.signal })), 201);
    },
  }),
  route({
    method: 'GET',
    path: '/volumes',
    operation: 'listVolumes',
    summary: 'All volumes',
    scope: 'volume:read',
    query: pagedQuery,
    answer: { status: 200, body: anyObject },
    handle: async (call) =>
      ok({ volumes: (await call.runtime.volumes.list({ signal: call.signal })).map(volumeToJson) }),
  }),
  route({
    method: 'GET',
    path: '/volumes/:name',
    operation: 'getVolume',
    summary: 'One volume, by name or id',
    scope: 'volume:read',
    params: volumeParams,
    answer: { status: 200, body: volumeBody },
    handle: async (call) => {
      const volume = await call.runtime.volumes.get(call.params.name, { signal: call.signal });
      if (!volume) throw notFound('volume', call.params.name);
      return ok(volumeToJson(volume));
    },
  }),
  route({
    method: 'DELETE',
    path: '/volumes/:name',
    operation: 'removeVolume',
    summary: 'Remove a volume',
    scope: 'volume:write',
    params: volumeParams,
    query: forceQuery,
    answer: { status: 204 },
    handle: async (call) => {
      await call.runtime.volumes.remove(call.params.name, { force: call.query.force, signal: call.signal });
      return empty;
    },
  }),
];
