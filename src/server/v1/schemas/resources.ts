import { z } from 'zod';
import { imageRecipes } from '../../../api/index.js';
import { named, openQuery, optionalBody, queryFlag } from '../../http/common-schemas.js';

const reference = z.string().min(1).max(512);

/** How the registry of a pull is reached: `RegistryOptions`, with certificates as text, never as a path of the host. */
const registryRequest = z.strictObject({
  username: z.string().min(1).max(256).optional(),
  password: z.string().max(16_384).optional(),
  mirrors: z.array(z.string().min(1).max(256)).max(8).optional(),
  plain_http: z.boolean().optional(),
  ca: z.string().max(262_144).optional(),
  skip_verify: z.boolean().optional(),
});

/** Body of `POST {p}/images/pull`. */
export const pullRequest = z.strictObject({
  reference,
  platform: z.string().max(64).optional(),
  pull_policy: z.enum(['always', 'missing', 'never']).optional(),
  registry: registryRequest.optional(),
});

/** Body of `POST {p}/images/import`: a path on the engine's host. */
export const importImageRequest = z.strictObject({
  path: z.string().min(1).max(4096),
  reference: reference.optional(),
  platform: z.string().max(64).optional(),
});

/** Body of `POST {p}/images/build`. */
export const buildRequest = z.strictObject({
  name: reference,
  from_debian: z.string().min(1).max(64).optional(),
  recipe: z.enum(imageRecipes).optional(),
  packages: z.array(z.string().min(1).max(128)).max(256).optional(),
});

/** Query of `POST {p}/images/build/dockerfile`. */
export const dockerfileQuery = openQuery({
  name: reference,
  dockerfile: z.string().min(1).max(4096).optional(),
  target: z.string().min(1).max(128).optional(),
  no_cache: queryFlag.optional(),
  cpus: z.coerce.number().int().optional(),
  memory_mib: z.coerce.number().int().optional(),
});

/** `:reference` of an image: a reference or id, percent-encoded. */
export const imageParams = z.strictObject({ reference });

/** Query of what removes something. */
export const forceQuery = openQuery({ force: queryFlag.optional() });

/** Query of `DELETE {p}/images/{reference}`. `all_tags`: whether the reference is a name; without a tag it is. */
export const removeImageQuery = openQuery({ force: queryFlag.optional(), all_tags: queryFlag.optional() });

/** Query of `GET {p}/images`. */
export const imagesQuery = openQuery({
  pageSize: z.string().max(8).optional(),
  pageToken: z.string().max(256).optional(),
  name: reference.optional(),
});

/** Body of `POST {p}/images/{name}/aliases`. */
export const aliasRequest = z.strictObject({
  alias: z.string().min(1).max(128),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/, 'should be sha256: and 64 hex digits'),
});

/** `:reference` of an image, and `:alias`, one of its tags. */
export const aliasParams = z.strictObject({ reference, alias: z.string().min(1).max(128) });

/** Query of the lists v1 pages; ours answers whole. */
export const pagedQuery = openQuery({
  pageSize: z.string().max(8).optional(),
  pageToken: z.string().max(256).optional(),
});

/** `ImageInfo` of the v1 contract, section 1.5, and ours. */
export const imageBody = z
  .object({ reference: z.string(), id: z.string(), layer_count: z.int(), size_bytes: z.int() })
  .loose()
  .register(named, { id: 'Image' });

/** Body of `POST {p}/volumes`. */
export const volumeRequest = optionalBody({
  name: z
    .string()
    .max(128)
    .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/, 'should be letters, digits, "_", "." or "-", at least two')
    .optional(),
  size_gb: z.int().min(1).max(1024).optional(),
});

/** `:name` of a volume: its name or id. */
export const volumeParams = z.strictObject({ name: z.string().min(1).max(128) });

/** `Volume` of the v1 contract, section 1.5. */
export const volumeBody = z
  .object({
    id: z.string(),
    name: z.string(),
    created_at: z.string(),
    size_bytes: z.int(),
    state: z.string(),
  })
  .loose()
  .register(named, { id: 'Volume' });

/** Body of `POST {p}/gc`. */
export const gcRequest = optionalBody({ dry_run: z.boolean().optional() });

/** What is only described for readers: any JSON object. */
export const anyObject = z.record(z.string(), z.unknown());

/** Query of `GET {p}/boxes/{id}/logs`. */
export const logsQuery = z.strictObject({ output: z.enum(['stdout', 'stderr']).optional() });

/** Query of `GET {p}/boxes/{id}/metrics/series`. */
export const seriesQuery = z.strictObject({ since: z.iso.datetime({ offset: true }).optional() });

/** Query of the event stream. */
export const eventsQuery = z.strictObject({ since: z.string().max(128).optional() });
