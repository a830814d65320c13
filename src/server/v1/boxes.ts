import type { BoxInfo } from '../../api/index.js';
import { boxToJson } from '../../wire/box.js';
import { createFromJson } from '../../wire/create.js';
import { authorize, mayWake, type Principal } from '../http/auth.js';
import { boxParams } from '../http/common-schemas.js';
import { boxOf, empty, ok, type Route, route } from '../http/route.js';
import { boxBody, boxListBody, createRequest, listQuery, removeQuery } from './schemas/box.js';

const texts = new WeakMap<BoxInfo, string>();

/** JSON of a box as text. One that can never change, as the engine gives boxes at rest, is written once. */
function textOf(info: BoxInfo): string {
  const known = texts.get(info);
  if (known !== undefined) return known;
  const text = JSON.stringify(boxToJson(info));
  if (Object.isFrozen(info)) texts.set(info, text);
  return text;
}

/** Stands for a value that may be a secret. */
const hidden = '***';

/** A box as a principal may see it: values of the environment are for who may use them. */
function shown(info: BoxInfo, principal: Principal): BoxInfo {
  if (mayWake(principal)) return info;
  return { ...info, env: Object.fromEntries(Object.keys(info.env).map((name) => [name, hidden])) };
}

/** Boxes as resources. */
export const boxRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/boxes',
    operation: 'createBox',
    summary: 'Make a box and start it',
    scope: 'box:write',
    body: createRequest,
    idempotent: true,
    answer: { status: 201, body: boxBody },
    progress: true,
    handle: async (call, onProgress) => {
      const { signal, operationId } = call;
      // Ports are the host's.
      if (call.body.ports?.length) authorize(call.principal, 'admin', null);
      // The box outlives this connection and this server: it is never this process that removes it.
      const options = { ...createFromJson(call.body), detach: true, signal, onProgress, operationId };
      const info = await (await call.runtime.create(options)).info();
      call.parts.metrics.stages('createBox', info.stages);
      return ok(boxToJson(info), 201, { location: `/v1/boxes/${info.id}` });
    },
  }),
  route({
    method: 'GET',
    path: '/boxes',
    operation: 'listBoxes',
    summary: 'All boxes, newest first; in pages when pageSize is given',
    scope: 'box:read',
    query: listQuery,
    answer: { status: 200, body: boxListBody },
    handle: async ({ runtime, query, signal, principal }) => {
      const { status, pageSize, pageToken } = query;
      const boxes = await runtime.list({ status, after: pageToken, limit: pageSize, signal });
      // The token is the id of the last box of the page before.
      const last = boxes.length === pageSize ? boxes.at(-1)?.id : undefined;
      const hasMore =
        last !== undefined && (await runtime.list({ status, after: last, limit: 1, signal })).length > 0;
      const next = hasMore ? `,"next_page_token":${JSON.stringify(last)}` : '';
      return {
        jsonText: `{"boxes":[${boxes.map((info) => textOf(shown(info, principal))).join(',')}]${next}}`,
      };
    },
  }),
  route({
    method: 'GET',
    path: '/boxes/:id',
    operation: 'getBox',
    summary: 'One box',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: boxBody },
    handle: async (call) => {
      const info = await (await boxOf(call)).info({ signal: call.signal });
      return { jsonText: textOf(shown(info, call.principal)) };
    },
  }),
  route({
    method: 'HEAD',
    path: '/boxes/:id',
    operation: 'hasBox',
    summary: 'Whether there is such a box',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 204 },
    handle: async (call) => {
      await boxOf(call);
      return empty;
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id',
    operation: 'removeBox',
    summary: 'Remove a box',
    scope: 'box:delete',
    params: boxParams,
    query: removeQuery,
    answer: { status: 204 },
    handle: async ({ runtime, params, query, signal }) => {
      await runtime.remove(params.id, { force: query.force ?? false, signal });
      return empty;
    },
  }),
];
