import { boxToJson } from '../../wire/box.js';
import { importEnvHeader, octets } from '../../wire/media.js';
import { authorize } from '../http/auth.js';
import { boxParams } from '../http/common-schemas.js';
import { boxOf, empty, ok, type Route, route } from '../http/route.js';
import { textsOf } from './header-json.js';
import { boxBody } from './schemas/box.js';
import { adoptRequest, cloneRequest, exportRequest, importQuery } from './schemas/snapshot.js';

/** Boxes made from boxes: clones and archives. */
export const copyRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/import',
    operation: 'importBox',
    summary: 'Make a box from an archive',
    scope: 'box:write',
    query: importQuery,
    headers: { [importEnvHeader]: 'Environment variables on top of those in the archive, as a JSON object' },
    body: 'bytes',
    idempotent: true,
    answer: { status: 201, body: boxBody },
    handle: async (call) => {
      const { name, memory } = call.query;
      // The state of a machine can be made to attack QEMU, so it takes one who is trusted with the host.
      if (memory) authorize(call.principal, 'admin', null);
      const { signal, operationId } = call;
      const env = textsOf(call.headers, importEnvHeader);
      const box = await call.runtime.import(call.upload, { name, memory, env, operationId, signal });
      return ok(boxToJson(await box.info()), 201, { location: `/v1/boxes/${box.id}` });
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/clone',
    operation: 'cloneBox',
    summary: 'Copy a box, sharing what is unchanged',
    scope: 'box:write',
    params: boxParams,
    body: cloneRequest,
    answer: { status: 201, body: boxBody },
    handle: async (call) => {
      const { name, cow, from_snapshot: fromSnapshot, start_after_clone: startAfterClone } = call.body;
      const source = await boxOf(call);
      const clone = await source.clone(name, { cow, fromSnapshot, startAfterClone, signal: call.signal });
      return ok(boxToJson(await clone.info()), 201, { location: `/v1/boxes/${clone.id}` });
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/release',
    operation: 'releaseBox',
    summary: 'Take a box out of its home, for other homes to adopt from its store',
    // Whoever reaches the store can have it then.
    scope: 'admin',
    params: boxParams,
    answer: { status: 204 },
    handle: async (call) => {
      await (await boxOf(call)).release({ signal: call.signal });
      return empty;
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/adopt',
    operation: 'adoptBox',
    summary: 'Bring a box that its home has released into this one',
    // It names places of the host, and the state of a machine can be made to attack QEMU.
    scope: 'admin',
    body: adoptRequest,
    answer: { status: 201, body: boxBody },
    handle: async (call) => {
      const { store, box, name } = call.body;
      const adopted = await call.runtime.adopt(store, { box, name, signal: call.signal });
      return ok(boxToJson(await adopted.info()), 201, { location: `/v1/boxes/${adopted.id}` });
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/export',
    operation: 'exportBox',
    summary: 'A box as an archive',
    // Taking it stops the guest for a moment and renews its disks; with memory it holds the passwords of programs.
    scope: 'box:write',
    params: boxParams,
    body: exportRequest,
    answer: { status: 200, body: octets },
    handle: async (call) => {
      const bytes = await (await boxOf(call)).exportStream({
        signal: call.signal,
        compress: call.body.compress,
        compressionLevel: call.body.compression_level,
        includeMetadata: call.body.include_metadata,
        env: call.body.env,
        memory: call.body.memory,
      });
      return { bytes, contentType: octets };
    },
  }),
];
