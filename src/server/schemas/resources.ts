import { z } from 'zod';
import { optionalBody, queryFlag } from './common.js';

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
});

/** Body of `POST {p}/images/build`. */
export const buildRequest = z.strictObject({
  name: reference,
  from_debian: z.string().min(1).max(64),
  packages: z.array(z.string().min(1).max(128)).max(256).optional(),
});

/** `:reference` of an image: a reference or id, percent-encoded. */
export const imageParams = z.strictObject({ reference });

/** Query of what removes something. */
export const forceQuery = z.strictObject({ force: queryFlag.optional() });

/** Query of the lists v1 pages; ours answers whole. */
export const pagedQuery = z.strictObject({
  pageSize: z.string().max(8).optional(),
  pageToken: z.string().max(256).optional(),
});

/** `ImageInfo` of the v1 contract, section 1.5, and ours. */
export const imageBody = z
  .object({ reference: z.string(), id: z.string(), layer_count: z.int(), size_bytes: z.int() })
  .loose();

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
  .loose();

/** Body of `POST {p}/gc`. */
export const gcRequest = optionalBody({ dry_run: z.boolean().optional() });

/** What is only described for readers: any JSON object. */
export const anyObject = z.record(z.string(), z.unknown());
