import type { ImageInfo, PullResult, RegistryOptions } from '../api/index.js';
import { asObject, compact, date, type JsonObject, number, text } from './json.js';

/** `ImageInfo` of the v1 contract, section 1.5, and ours. */
export function imageToJson(info: ImageInfo): JsonObject {
  return {
    reference: info.reference,
    repository: info.repository,
    tag: info.tag,
    id: info.id,
    manifest_digest: info.manifestDigest,
    layer_count: info.layerCount,
    cached_at: info.cachedAt.toISOString(),
    size_bytes: info.sizeBytes,
  };
}

/** A name of images with all that it names, as newer v1 clients read it: a version for each digest, the newest first. */
export function imageNameToJson(images: readonly ImageInfo[]): JsonObject {
  const [newest] = images;
  if (!newest) return {};
  const digests = [...new Set(images.map(({ manifestDigest }) => manifestDigest))];
  const tags = (some: readonly ImageInfo[]): string[] =>
    some.map(({ tag }) => tag).filter((tag) => tag !== '');
  return {
    name: nameOf(newest.reference),
    tags: tags(images),
    aliases: tags(images),
    curated: false,
    versions: digests.map((digest) => {
      const same = images.filter(({ manifestDigest }) => manifestDigest === digest);
      const first = same.at(-1) ?? newest;
      return {
        digest,
        aliases: tags(same),
        size_bytes: first.sizeBytes,
        source_ref: first.reference,
        recorded_at: first.cachedAt.toISOString(),
      };
    }),
    history: [],
  };
}

/** A reference without its tag and digest. */
function nameOf(reference: string): string {
  return reference.replace(/@.*$/, '').replace(/:[^:/]*$/, '');
}

/** How much is kept. There is no limit, and v1 clients need a number: the largest that is exact. */
export function imageUsageToJson(images: readonly ImageInfo[]): JsonObject {
  const sizes = new Map(images.map(({ manifestDigest, sizeBytes }) => [manifestDigest, sizeBytes]));
  return {
    count: new Set(images.map(({ reference }) => nameOf(reference))).size,
    limit: Number.MAX_SAFE_INTEGER,
    known_bytes: [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0),
  };
}

/** The inverse of {@link imageToJson}. */
export function imageFromJson(value: unknown): ImageInfo {
  const json = asObject(value, 'image');
  return {
    reference: text(json, 'reference'),
    repository: text(json, 'repository'),
    tag: text(json, 'tag'),
    id: text(json, 'id'),
    manifestDigest: text(json, 'manifest_digest'),
    layerCount: number(json, 'layer_count'),
    cachedAt: date(json, 'cached_at'),
    sizeBytes: number(json, 'size_bytes', 0),
  };
}

/** What a pull brought: what newer v1 clients read (`config_digest`), and what their specification says (`id`). */
export function pullResultToJson(result: PullResult): JsonObject {
  return {
    reference: result.reference,
    id: result.configDigest,
    config_digest: result.configDigest,
    manifest_digest: result.manifestDigest,
    layer_count: result.layerCount,
    size_bytes: result.sizeBytes,
  };
}

/** The inverse of {@link pullResultToJson}. */
export function pullResultFromJson(value: unknown): PullResult {
  const json = asObject(value, 'image');
  return {
    reference: text(json, 'reference'),
    configDigest: text(json, 'config_digest'),
    manifestDigest: text(json, 'manifest_digest'),
    layerCount: number(json, 'layer_count'),
    sizeBytes: number(json, 'size_bytes', 0),
  };
}

/** `registry` of a pull. A file of certificates lies where the call is made: its content travels as `ca`. */
export function registryToJson(registry: Omit<RegistryOptions, 'caFile'>): JsonObject {
  const { username, password, mirrors, plainHttp, ca, skipVerify } = registry;
  return compact({ username, password, mirrors, plain_http: plainHttp, ca, skip_verify: skipVerify });
}

/** The shape of {@link registryToJson}. */
interface RegistryJson extends Pick<RegistryOptions, 'username' | 'password' | 'mirrors' | 'ca'> {
  readonly plain_http?: boolean | undefined;
  readonly skip_verify?: boolean | undefined;
}

/** The inverse of {@link registryToJson}, of what a schema has checked. */
export function registryFromJson({ plain_http, skip_verify, ...rest }: RegistryJson): RegistryOptions {
  return { ...rest, plainHttp: plain_http, skipVerify: skip_verify };
}
