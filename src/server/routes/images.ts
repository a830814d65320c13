import { imageToJson, pullResultToJson, registryFromJson } from '../../wire/image.js';
import { empty, notFound, ok, type Route, route } from '../route.js';
import {
  anyObject,
  buildRequest,
  forceQuery,
  imageBody,
  imageParams,
  importImageRequest,
  pagedQuery,
  pullRequest,
} from '../schemas/resources.js';

/** How images come here. Each reports its progress to who accepts lines of JSON. */
const arrivalRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/images/pull',
    operation: 'pullImage',
    summary: 'Get an image from its registry',
    scope: 'image:write',
    body: pullRequest,
    answer: { status: 200, body: anyObject },
    progress: true,
    handle: async (call, onProgress) => {
      const { reference, platform, pull_policy: pullPolicy } = call.body;
      const registry = call.body.registry && registryFromJson(call.body.registry);
      const { signal } = call;
      return ok(
        pullResultToJson(
          await call.runtime.images.pull(reference, { platform, pullPolicy, registry, onProgress, signal }),
        ),
      );
    },
  }),
  route({
    method: 'POST',
    path: '/images/import',
    operation: 'importImage',
    summary: "Import an image from a path on the engine's host",
    scope: 'admin',
    body: importImageRequest,
    answer: { status: 200, body: anyObject },
    progress: true,
    handle: async (call, onProgress) => {
      const { path, reference } = call.body;
      const options = { reference, onProgress, signal: call.signal };
      return ok(pullResultToJson(await call.runtime.images.import(path, options)));
    },
  }),
  route({
    method: 'POST',
    path: '/images/build',
    operation: 'buildImage',
    summary: 'Build an image from Debian packages',
    scope: 'admin',
    body: buildRequest,
    answer: { status: 200, body: anyObject },
    progress: true,
    handle: async (call, onProgress) => {
      const { name, packages, from_debian: fromDebian } = call.body;
      const options = { fromDebian, packages, onProgress, signal: call.signal };
      return ok(pullResultToJson(await call.runtime.images.build(name, options)));
    },
  }),
];

/** Images that are here. */
export const imageRoutes: readonly Route[] = [
  ...arrivalRoutes,
  route({
    method: 'POST',
    path: '/images/prune',
    operation: 'pruneImages',
    summary: 'Remove the images no box uses',
    scope: 'image:write',
    answer: { status: 200, body: anyObject },
    handle: async (call) => ok({ removed: await call.runtime.images.prune({ signal: call.signal }) }),
  }),
  route({
    method: 'GET',
    path: '/images',
    operation: 'listImages',
    summary: 'All images',
    scope: 'image:read',
    query: pagedQuery,
    answer: { status: 200, body: anyObject },
    handle: async (call) =>
      ok({ images: (await call.runtime.images.list({ signal: call.signal })).map(imageToJson) }),
  }),
  ...(['GET', 'HEAD'] as const).map((method) =>
    route({
      method,
      path: '/images/:reference',
      operation: method === 'GET' ? 'getImage' : 'hasImage',
      summary: method === 'GET' ? 'One image, by reference or id' : 'Whether there is such an image',
      scope: 'image:read',
      params: imageParams,
      answer: method === 'GET' ? { status: 200, body: imageBody } : { status: 204 },
      handle: async (call) => {
        const image = await call.runtime.images.get(call.params.reference, { signal: call.signal });
        if (!image) throw notFound('image', call.params.reference);
        return method === 'GET' ? ok(imageToJson(image)) : empty;
      },
    }),
  ),
  route({
    method: 'DELETE',
    path: '/images/:reference',
    operation: 'removeImage',
    summary: 'Remove an image',
    scope: 'image:write',
    params: imageParams,
    query: forceQuery,
    answer: { status: 204 },
    handle: async (call) => {
      await call.runtime.images.remove(call.params.reference, {
        force: call.query.force,
        signal: call.signal,
      });
      return empty;
    },
  }),
];
