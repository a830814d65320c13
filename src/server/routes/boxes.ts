import type { BoxInfo } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { boxToJson } from '../../wire/box.js';
import { createFromJson } from '../../wire/create.js';
import { boxOf, empty, ok, type Route, route } from '../route.js';
import { boxBody, boxListBody, createRequest, listQuery, removeQuery } from '../schemas/box.js';
import { boxParams } from '../schemas/common.js';

const texts = new WeakMap<BoxInfo, string>();

/** JSON of a box as text. One that can never change, as the engine gives boxes at rest, is written once. */
function textOf(info: BoxInfo): string {
  const known = texts.get(info);
  if (known !== undefined) return known;
  const text = JSON.stringify(boxToJson(info));
  if (Object.isFrozen(info)) texts.set(info, text);
  return text;
}

/** One page of the boxes as JSON text; the token is the id of the last box of the page before. */
function pageOf(boxes: readonly BoxInfo[], pageSize: number | undefined, token: string | undefined): string {
  const after = token === undefined ? -1 : boxes.findIndex((box) => box.id === token);
  if (token !== undefined && after < 0) {
    throw new CryoboxError(
      'invalid_argument',
      '"pageToken" names no box of the list; begin again without it',
    );
  }
  const page = boxes.slice(after + 1, pageSize === undefined ? undefined : after + 1 + pageSize);
  const last = page.at(-1);
  const more = last !== undefined && after + 1 + page.length < boxes.length;
  const next = more ? `,"next_page_token":${JSON.stringify(last.id)}` : '';
  return `{"boxes":[${page.map(textOf).join(',')}]${next}}`;
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
    summary: 'All boxes, oldest first; in pages when pageSize is given',
    scope: 'box:read',
    query: listQuery,
    answer: { status: 200, body: boxListBody },
    handle: async ({ runtime, query, signal }) => {
      const boxes = await runtime.list({ status: query.status, signal });
      return { jsonText: pageOf(boxes, query.pageSize, query.pageToken) };
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
    handle: async (call) => ({ jsonText: textOf(await (await boxOf(call)).info({ signal: call.signal })) }),
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
