/** The JSON documents of an image: index and manifest (OCI image spec; Docker's "Image Manifest V 2, Schema 2"). */
import { z } from 'zod';
import { parseJson } from '../../base/json.js';
import { showName } from '../../base/tar/names.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { isDigest } from './digest.js';
import type { ImageLimits } from './limits.js';

/** Media types by what they are. */
export const mediaTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  layerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
} as const;

const layerTypes: ReadonlySet<string> = new Set([
  mediaTypes.layer,
  mediaTypes.layerGzip,
  mediaTypes.layerZstd,
  mediaTypes.dockerLayer,
  mediaTypes.dockerLayerGzip,
  mediaTypes.dockerLayerZstd,
]);
const configTypes: ReadonlySet<string> = new Set([mediaTypes.config, mediaTypes.dockerConfig]);
const indexTypes: ReadonlySet<string> = new Set([mediaTypes.index, mediaTypes.dockerIndex]);

const descriptorSchema = z.object({
  mediaType: z.string().default(''),
  digest: z.string().refine(isDigest, 'is no sha256 digest'),
  size: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  annotations: z.record(z.string(), z.string()).nullish(),
  platform: z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() }).nullish(),
});

const indexSchema = z.object({ manifests: z.array(descriptorSchema) });
const manifestSchema = z.object({ config: descriptorSchema, layers: z.array(descriptorSchema) });

/** A blob by digest and length, with what an index says about it. */
export type Descriptor = z.infer<typeof descriptorSchema>;
/** An image index: manifests by platform or name. */
export type ImageIndex = z.infer<typeof indexSchema>;
/** An image manifest: one config and its layers, lowest first. */
export type ImageManifest = z.infer<typeof manifestSchema>;

/** Values in a document: a manifest of as many layers as are taken, annotated, and their history, with room. */
const maxDocumentValues = 20_000;

/** Parses JSON against a schema. Throws `image_invalid` naming the document and its first wrong field. */
export function parseDocument<T>(bytes: Buffer, schema: z.ZodType<T>, what: string): T {
  let value: unknown;
  try {
    value = parseJson(bytes.toString('utf8'), { maxValues: maxDocumentValues });
  } catch (error) {
    throw new CryoboxError('image_invalid', `the image's ${what} is not JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CryoboxError(
    'image_invalid',
    `the image's ${what} is wrong at ${issue?.path.join('.') || 'its top'}: ${issue?.message ?? ''}`,
  );
}

/** Parses an index or a manifest, told apart by their fields because media types are often missing or wrong. */
export function parseIndexOrManifest(
  bytes: Buffer,
  limits: ImageLimits,
):
  | { readonly index: ImageIndex; readonly manifest?: undefined }
  | { readonly index?: undefined; readonly manifest: ImageManifest } {
  const kind = parseDocument(
    bytes,
    z.object({
      schemaVersion: z.number(),
      mediaType: z.string().optional(),
      manifests: z.unknown().optional(),
      layers: z.unknown().optional(),
    }),
    'manifest',
  );
  if (kind.schemaVersion === 1) {
    throw new CryoboxError(
      'image_refused',
      'the image has a manifest of schema 1, which no tool has made since 2017',
      {
        hint: 'Push the image again with a current tool.',
      },
    );
  }
  if (indexTypes.has(kind.mediaType ?? '') || kind.manifests !== undefined)
    return { index: parseIndex(bytes) };
  const manifest = parseDocument(bytes, manifestSchema, 'manifest');
  checkManifest(manifest, limits);
  return { manifest };
}

/** Parses an index. Throws `image_invalid`. */
export function parseIndex(bytes: Buffer): ImageIndex {
  return parseDocument(bytes, indexSchema, 'index');
}

/** Throws `image_refused` for what is no container image, for layers kept elsewhere and for too many layers. */
function checkManifest(manifest: ImageManifest, limits: ImageLimits): void {
  if (!configTypes.has(manifest.config.mediaType)) {
    throw new CryoboxError(
      'image_refused',
      `this is no container image: its config is of type ${showName(manifest.config.mediaType)}`,
    );
  }
  if (manifest.layers.length > limits.maxLayers) {
    throw new CryoboxError(
      'image_refused',
      `the image has ${manifest.layers.length} layers; at most ${limits.maxLayers} are taken`,
    );
  }
  for (const layer of manifest.layers) {
    if (layerTypes.has(layer.mediaType)) continue;
    const isForeign = /nondistributable|foreign/.test(layer.mediaType);
    const what = isForeign
      ? 'is a foreign layer, which its registry does not hand out'
      : `has the type ${showName(layer.mediaType)}`;
    throw new CryoboxError(
      'image_refused',
      `the layer ${layer.digest} ${what}; tar layers, plain, gzip or zstd, are taken`,
    );
  }
}
