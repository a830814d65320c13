import type { ImageInfo, Images } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import {
  imageNameToJson,
  imageToJson,
  imageUsageToJson,
  pullResultToJson,
  registryFromJson,
} from '../../wire/image.js';
import { buildArgsHeader } from '../../wire/media.js';
import { authorize } from '../http/auth.js';
import { empty, notFound, ok, type Route, route } from '../http/route.js';
import { textsOf } from './header-json.js';
import {
  aliasParams,
  aliasRequest,
  anyObject,
  buildRequest,
  dockerfileQuery,
  forceQuery,
  imageBody,
  imageParams,
  imagesQuery,
  importImageRequest,
  pullRequest,
  removeImageQuery,
} from './schemas/resources.js';

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
      const { path, reference, platform } = call.body;
      const options = { reference, platform, onProgress, signal: call.signal };
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
      const { name, packages, recipe, from_debian: fromDebian } = call.body;
      const options = { fromDebian, packages, recipe, onProgress, signal: call.signal };
      return ok(pullResultToJson(await call.runtime.images.build(name, options)));
    },
  }),
  route({
    method: 'POST',
    path: '/images/build/dockerfile',
    operation: 'buildImageFromDockerfile',
    summary: 'Build an image by the steps of a Dockerfile; the body is a tar of the context',
    scope: 'image:write',
    query: dockerfileQuery,
    headers: { [buildArgsHeader]: 'Values of ARG, as a JSON object' },
    body: 'bytes',
    answer: { status: 200, body: anyObject },
    progress: true,
    handle: async (call, onProgress) => {
      // Its steps run in boxes.
      authorize(call.principal, 'box:write', null);
      const { name, dockerfile, target, no_cache: noCache, cpus, memory_mib: memoryMiB } = call.query;
      const buildArgs = textsOf(call.headers, buildArgsHeader);
      const { upload: context, signal } = call;
      const options = {
        context,
        dockerfile,
        target,
        noCache,
        cpus,
        memoryMiB,
        buildArgs,
        onProgress,
        signal,
      };
      return ok(pullResultToJson(await call.runtime.images.build(name, options)));
    },
  }),
];

/** Whether a reference has neither tag nor digest. */
function isName(reference: string): boolean {
  return !reference.includes('@') && reference.lastIndexOf(':') <= reference.lastIndexOf('/');
}

/** An image by reference, id or name, and all images of its name. A name alone is its tag `latest`, else its newest image. */
async function lookUp(
  images: Images,
  reference: string,
  signal: AbortSignal,
): Promise<{ readonly image: ImageInfo; readonly siblings: readonly ImageInfo[] } | undefined> {
  const here = await images.get(reference, { signal });
  if (!here && !isName(reference)) return undefined;
  const siblings = await images.named(here?.repository ?? reference, { signal });
  const image = here ?? siblings[0];
  return image && { image, siblings };
}

/** More names of images that are here. */
const aliasRoutes: readonly Route[] = [
  route({
    method: 'POST',
    path: '/images/:reference/aliases',
    operation: 'createImageAlias',
    summary: 'Give an image of a name one more tag',
    scope: 'image:write',
    params: imageParams,
    body: aliasRequest,
    answer: { status: 201, body: anyObject },
    handle: async ({ runtime: { images }, params: { reference }, body, signal }) => {
      const image = await images.alias(reference, body.alias, body.digest, { signal });
      return ok(
        { ...imageToJson(image), ...imageNameToJson(await images.named(reference, { signal })) },
        201,
      );
    },
  }),
  route({
    method: 'DELETE',
    path: '/images/:reference/aliases/:alias',
    operation: 'removeImageAlias',
    summary: 'Remove one tag of a name',
    scope: 'image:write',
    params: aliasParams,
    query: forceQuery,
    answer: { status: 204 },
    handle: async ({ runtime: { images }, params: { reference, alias }, query: { force }, signal }) => {
      if (!isName(reference)) throw notAName(reference);
      await images.remove(`${reference}:${alias}`, { force, signal });
      return empty;
    },
  }),
];

function notAName(reference: string): CryoboxError {
  return new CryoboxError('invalid_argument', `"${reference}" has a tag or a digest, expected a name`, {
    hint: 'Write the name alone, such as docker.io/library/alpine.',
  });
}

/** Logins of registries are not kept: who pulls gives them. */
const notOffered: readonly Route[] = (
  [
    ['GET', '/images/registries', 'listRegistries', 'image:read'],
    ['POST', '/images/registries', 'createRegistry', 'image:write'],
    ['DELETE', '/images/registries/:id', 'removeRegistry', 'image:write'],
  ] as const
).map(([method, path, operation, scope]) =>
  route({
    method,
    path,
    operation,
    summary: 'Not offered: logins of registries are given with each pull',
    scope,
    answer: { status: 400 },
    handle: async () => {
      throw new CryoboxError('unsupported', 'this server keeps no logins of registries', {
        hint: 'Give registry.username and registry.password to POST /images/pull.',
      });
    },
  }),
);

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
    query: imagesQuery,
    answer: { status: 200, body: anyObject },
    handle: async ({ runtime, query: { name }, signal }) => {
      const { images } = runtime;
      const found = name === undefined ? await images.list({ signal }) : await images.named(name, { signal });
      return ok({ images: found.map(imageToJson) });
    },
  }),
  route({
    method: 'GET',
    path: '/images/usage',
    operation: 'getImageUsage',
    summary: 'How many images there are, and what they take',
    scope: 'image:read',
    answer: { status: 200, body: anyObject },
    handle: async ({ runtime, signal }) => ok(imageUsageToJson(await runtime.images.list({ signal }))),
  }),
  ...notOffered,
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
        const { reference } = call.params;
        const found = await lookUp(call.runtime.images, reference, call.signal);
        if (!found) throw notFound('image', reference);
        if (method === 'HEAD') return empty;
        return ok({ ...imageToJson(found.image), ...imageNameToJson(found.siblings) });
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
    query: removeImageQuery,
    answer: { status: 204 },
    handle: async ({ runtime, params: { reference }, query, signal }) => {
      const { force, all_tags: asked } = query;
      // A name without a tag is all of its tags; but it may also be an id.
      const allTags = asked ?? (isName(reference) && (await runtime.images.named(reference)).length > 0);
      await runtime.images.remove(reference, { force, allTags, signal });
      return empty;
    },
  }),
  ...aliasRoutes,
];
