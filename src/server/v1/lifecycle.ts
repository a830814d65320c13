import { z } from 'zod';
import type { Box } from '../../api/index.js';
import { boxToJson } from '../../wire/box.js';
import { diskLimitsFromJson } from '../../wire/disk-limits.js';
import type { JsonObject } from '../../wire/json.js';
import { boxParams, optionalBody } from '../http/common-schemas.js';
import { type Answer, boxOf, type Call, ok, type Route, route } from '../http/route.js';
import { boxBody, boxName, diskLimits, lifetimeRequest } from './schemas/box.js';
import { anyObject } from './schemas/resources.js';
import { forkRequest } from './schemas/snapshot.js';

/** Answers with the box as it is now, whole: v1 clients read all of it. */
async function withBox(call: Call, box: Box, more: JsonObject = {}): Promise<Answer> {
  return ok({ ...boxToJson(await box.info({ signal: call.signal })), ...more });
}

/** Changes of a box's state. */
export const lifecycleRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes/:id/start',
    operation: 'startBox',
    summary: 'Start a box; one that runs is left as it is',
    scope: 'box:write',
    params: boxParams,
    body: optionalBody({ discard_memory: z.boolean().optional() }),
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const box = await boxOf(call);
      const { run } = await box.info({ signal: call.signal });
      await box.start({ signal: call.signal, discardMemory: call.body.discard_memory });
      const info = await box.info({ signal: call.signal });
      if (info.run !== run) call.parts.metrics.stages('startBox', info.stages);
      return ok(boxToJson(info));
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/stop',
    operation: 'stopBox',
    summary: 'Stop a box; one that is stopped is left as it is',
    scope: 'box:write',
    params: boxParams,
    body: optionalBody({ timeout_seconds: z.number().min(0).max(3600).optional() }),
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const box = await boxOf(call);
      const seconds = call.body.timeout_seconds;
      await box.stop({
        signal: call.signal,
        timeoutMs: seconds === undefined ? undefined : seconds * 1000,
      });
      return withBox(call, box);
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/rename',
    operation: 'renameBox',
    summary: 'Give a box another name',
    scope: 'box:write',
    params: boxParams,
    body: z.strictObject({ name: boxName }),
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const box = await boxOf(call);
      await box.rename(call.body.name, { signal: call.signal });
      return withBox(call, box);
    },
  }),
  route({
    method: 'PUT',
    path: '/boxes/:id/disk_io',
    operation: 'limitDisk',
    summary: 'Replace the limits of the disks of a box; what is left out is not limited',
    scope: 'box:write',
    params: boxParams,
    body: diskLimits,
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const box = await boxOf(call);
      await box.limitDisk(diskLimitsFromJson(call.body), { signal: call.signal });
      return withBox(call, box);
    },
  }),
  route({
    method: 'PUT',
    path: '/boxes/:id/lifetime',
    operation: 'setLifetime',
    summary: 'Say how long each run of a box lasts, the present one from now on',
    scope: 'box:write',
    params: boxParams,
    body: lifetimeRequest,
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const box = await boxOf(call);
      const { seconds, action, extend_only: extendOnly } = call.body;
      await box.setLifetime(seconds, { action, extendOnly, signal: call.signal });
      return withBox(call, box);
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/pause',
    operation: 'pauseBox',
    summary: 'Keep memory on disk and free everything the box uses',
    scope: 'box:write',
    params: boxParams,
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const box = await boxOf(call);
      await box.pause({ signal: call.signal });
      return withBox(call, box);
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/resume',
    operation: 'resumeBox',
    summary: 'Bring a paused box back with its memory',
    scope: 'box:write',
    params: boxParams,
    body: optionalBody({ pager: z.enum(['auto', 'mmap', 'uffd']).optional() }),
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const box = await boxOf(call);
      const resume = await box.resume({ signal: call.signal, pager: call.body.pager });
      call.parts.metrics.stages('resumeBox', resume.stages);
      return withBox(call, box, { resume });
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/fork',
    operation: 'forkBox',
    summary: 'Running children with the processes of the box',
    scope: 'box:write',
    params: boxParams,
    body: forkRequest,
    idempotent: true,
    answer: { status: 201, body: anyObject },
    handle: async (call) => {
      const box = await boxOf(call);
      const { count, names, from_snapshot: fromSnapshot } = call.body;
      const { signal, operationId } = call;
      const results = await box.fork({ signal, operationId, count, names, fromSnapshot });
      const forks = results.map(async (result) => {
        if ('error' in result) return { error: call.parts.errors.json(result.error, call.requestId) };
        const info = await result.box.info({ signal: call.signal });
        call.parts.metrics.stages('forkBox', info.stages);
        return { box: boxToJson(info) };
      });
      return ok({ forks: await Promise.all(forks) }, 201);
    },
  }),
];
