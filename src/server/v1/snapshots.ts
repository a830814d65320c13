import { diffFromQuery, diffToJson } from '../../wire/diff.js';
import { snapshotToJson } from '../../wire/snapshot.js';
import { boxParams } from '../http/common-schemas.js';
import { boxOf, empty, notFound, ok, type Route, route } from '../http/route.js';
import { anyObject } from './schemas/resources.js';
import {
  diffBody,
  diffQuery,
  restoreRequest,
  snapshotBody,
  snapshotParams,
  snapshotRequest,
} from './schemas/snapshot.js';

/** Snapshots of a box. */
export const snapshotRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/:id/snapshots',
    operation: 'createSnapshot',
    summary: 'Take a snapshot of the disks, and of the memory when asked',
    scope: 'box:write',
    params: boxParams,
    body: snapshotRequest,
    answer: { status: 201, body: snapshotBody },
    handle: async (call) => {
      const { name, memory, quiesce } = call.body;
      const seconds = call.body.quiesce_timeout_secs;
      const snapshot = await (await boxOf(call)).snapshot.create(name, {
        signal: call.signal,
        memory,
        quiesce,
        quiesceTimeoutMs: seconds === undefined ? undefined : seconds * 1000,
        stopOnQuiesceFail: call.body.stop_on_quiesce_fail,
      });
      call.parts.metrics.stages('createSnapshot', { guest_pause: snapshot.guestPauseMs });
      return ok(snapshotToJson(snapshot), 201);
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/snapshots',
    operation: 'listSnapshots',
    summary: 'Snapshots of a box, newest first',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const snapshots = await (await boxOf(call)).snapshot.list({ signal: call.signal });
      return ok({ snapshots: snapshots.map(snapshotToJson) });
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/snapshots/:name',
    operation: 'getSnapshot',
    summary: 'One snapshot',
    scope: 'box:read',
    params: snapshotParams,
    answer: { status: 200, body: snapshotBody },
    handle: async (call) => {
      const snapshot = await (await boxOf(call)).snapshot.get(call.params.name, { signal: call.signal });
      if (!snapshot) throw notFound('snapshot', call.params.name);
      return ok(snapshotToJson(snapshot));
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id/diff',
    operation: 'diffBox',
    summary: 'Files that differ between two states of disks, in pages',
    scope: 'box:read',
    params: boxParams,
    query: diffQuery,
    answer: { status: 200, body: diffBody },
    handle: async (call) => {
      const options = { ...diffFromQuery(call.query), signal: call.signal };
      return ok(diffToJson(await (await boxOf(call)).diff(options)));
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id/snapshots/:name',
    operation: 'removeSnapshot',
    summary: 'Remove a snapshot, whatever descends from it',
    scope: 'box:write',
    params: snapshotParams,
    answer: { status: 204 },
    handle: async (call) => {
      await (await boxOf(call)).snapshot.remove(call.params.name, { signal: call.signal });
      return empty;
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/snapshots/:name/restore',
    operation: 'restoreSnapshot',
    summary: 'Put the disks back, or with "live" the whole machine',
    scope: 'box:write',
    params: snapshotParams,
    body: restoreRequest,
    answer: { status: 204 },
    handle: async (call) => {
      const box = await boxOf(call);
      await box.snapshot.restore(call.params.name, { live: call.body.live, signal: call.signal });
      if (call.body.live) {
        call.parts.metrics.stages('restoreSnapshot', (await box.info({ signal: call.signal })).stages);
      }
      return empty;
    },
  }),
];
