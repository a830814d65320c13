import { z } from 'zod';
import { previewAccesses } from '../../api/index.js';
import { type PreviewJson, previewToJson } from '../../wire/previews.js';
import { boxParams } from '../http/common-schemas.js';
import { boxOf, empty, ok, type Route, route } from '../http/route.js';
import { anyObject } from './schemas/resources.js';

const previewRequest = z.strictObject({
  port: z.int().min(1).max(65_535),
  access: z.enum(previewAccesses).optional(),
}) satisfies z.ZodType<PreviewJson>;

/** Addresses of their own for ports of a box. */
export const previewRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/boxes/:id/previews',
    operation: 'listPreviews',
    summary: 'The previews of a box',
    scope: 'box:read',
    params: boxParams,
    answer: { status: 200, body: anyObject },
    handle: async (call) => {
      const previews = await (await boxOf(call)).previews.list({ signal: call.signal });
      return ok({ previews: previews.map(previewToJson) });
    },
  }),
  route({
    method: 'POST',
    path: '/boxes/:id/previews',
    operation: 'createPreview',
    summary: 'Give a port of the box an address of its own, private or public',
    scope: 'box:exec',
    params: boxParams,
    body: previewRequest,
    answer: { status: 201, body: anyObject },
    handle: async (call) => {
      const { port, access } = call.body;
      const preview = await (await boxOf(call)).previews.create({ port, access, signal: call.signal });
      return ok(previewToJson(preview), 201);
    },
  }),
  route({
    method: 'DELETE',
    path: '/boxes/:id/previews/:preview',
    operation: 'removePreview',
    summary: 'End a preview, and what goes through it',
    scope: 'box:exec',
    params: boxParams.extend({ preview: z.string().max(64) }),
    answer: { status: 204 },
    handle: async (call) => {
      await (await boxOf(call)).previews.remove(call.params.preview, { signal: call.signal });
      return empty;
    },
  }),
];
