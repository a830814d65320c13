import { CryoboxError } from '../errors.js';
import type { LayerSource } from '../formats/oci/base-disk.js';
import { type ImageConfig, parseConfig } from '../formats/oci/config.js';
import { type Descriptor, type ImageManifest, parseIndexOrManifest } from '../formats/oci/documents.js';
import type { ImageLimits } from '../formats/oci/limits.js';
import { formatPlatform, type Platform, platformMatches } from '../formats/oci/platform.js';
import type { BlobStore } from './store.js';

/** How deep indexes may point at indexes; images have one level. */
const maxIndexDepth = 4;

/** One layer of an image. */
interface LayerFacts {
  readonly digest: string;
  /** Digest of the layer's unpacked tar. */
  readonly diffId: string;
  readonly mediaType: string;
  /** Length as stored, compressed. */
  readonly sizeBytes: number;
}

/** An image whose manifest and config are known. */
export interface Image {
  readonly manifestDigest: string;
  readonly configDigest: string;
  readonly config: ImageConfig;
  readonly platform: Platform;
  /** When the image was made, as its config says. */
  readonly createdAt: string | undefined;
  /** Lowest first. */
  readonly layers: readonly LayerFacts[];
  /** Manifest, config and layers as stored. */
  readonly sizeBytes: number;
}

/** Reads a document by descriptor and verifies its digest and length. */
export type DocumentReader = (descriptor: Pick<Descriptor, 'digest' | 'size'>) => Promise<Buffer>;

/** A manifest chosen from an index, with its bytes. */
interface ChosenManifest {
  readonly digest: string;
  readonly bytes: Buffer;
  readonly manifest: ImageManifest;
}

/**
 * Follows indexes from a document to the manifest for a platform. Throws `unsupported` naming the platforms that exist.
 */
export async function chooseManifest(
  top: { readonly digest: string; readonly bytes: Buffer },
  platform: Platform,
  read: DocumentReader,
  limits: ImageLimits,
): Promise<ChosenManifest> {
  let document = top;
  for (let depth = 0; depth <= maxIndexDepth; depth += 1) {
    const { index, manifest } = parseIndexOrManifest(document.bytes, limits);
    if (manifest) return { ...document, manifest };
    const chosen = chooseDescriptor(index.manifests, platform);
    document = { digest: chosen.digest, bytes: await read(chosen) };
  }
  throw new CryoboxError(
    'image_refused',
    `the image has more than ${maxIndexDepth} indexes inside each other`,
  );
}

/** The first manifest for a platform; one that names no platform is taken when there is no choice. */
function chooseDescriptor(manifests: readonly Descriptor[], platform: Platform): Descriptor {
  const named = manifests.find(
    (manifest) => manifest.platform && platformMatches(manifest.platform, platform),
  );
  const unnamed = manifests.filter((manifest) => !manifest.platform);
  const chosen = named ?? (unnamed.length === 1 ? unnamed[0] : undefined);
  if (chosen) return chosen;
  const offered = manifests.flatMap((manifest) => manifest.platform ?? []);
  throw wrongPlatform(platform, offered);
}

function wrongPlatform(wanted: Platform, offered: readonly Platform[]): CryoboxError {
  // Attestations are listed under the platform unknown/unknown.
  const names = [...new Set(offered.map(formatPlatform))].filter((name) => name !== 'unknown/unknown');
  return new CryoboxError(
    'unsupported',
    names.length > 0
      ? `the image is not made for ${formatPlatform(wanted)}; it exists for ${names.join(', ')}`
      : `the image is not made for ${formatPlatform(wanted)}, and names no other platform`,
    {
      hint: 'Choose an image made for this machine.',
      details: { wanted: formatPlatform(wanted), platforms: names },
    },
  );
}

/** What a manifest and its config say together. Throws `image_invalid` when they contradict, `unsupported` by platform. */
export function describeImage(chosen: ChosenManifest, configBytes: Buffer, platform?: Platform): Image {
  const { manifest, digest } = chosen;
  const parsed = parseConfig(configBytes);
  if (parsed.diffIds.length !== manifest.layers.length) {
    throw new CryoboxError(
      'image_invalid',
      `the image's manifest has ${manifest.layers.length} layers, its config has ${parsed.diffIds.length}`,
    );
  }
  if (platform && !platformMatches(parsed.platform, platform))
    throw wrongPlatform(platform, [parsed.platform]);
  const layers = manifest.layers.map((layer, index) => ({
    digest: layer.digest,
    diffId: parsed.diffIds[index] ?? '',
    mediaType: layer.mediaType,
    sizeBytes: layer.size,
  }));
  const { config, createdAt } = parsed;
  const sizeBytes = layers.reduce(
    (total, layer) => total + layer.sizeBytes,
    chosen.bytes.length + configBytes.length,
  );
  return {
    manifestDigest: digest,
    configDigest: manifest.config.digest,
    config,
    platform: parsed.platform,
    createdAt,
    layers,
    sizeBytes,
  };
}

/** Reads an image back from the store by the digest of its manifest. Throws `image_not_found`, `image_invalid`. */
export async function loadImage(
  store: BlobStore,
  manifestDigest: string,
  limits: ImageLimits,
): Promise<Image> {
  const bytes = await store.readDocument(manifestDigest, limits.maxDocumentBytes);
  const { manifest } = parseIndexOrManifest(bytes, limits);
  if (!manifest)
    throw new CryoboxError('image_invalid', `${manifestDigest} is an index, expected a manifest`);
  const config = await store.readDocument(manifest.config.digest, limits.maxDocumentBytes);
  return describeImage({ digest: manifestDigest, bytes, manifest }, config);
}

/** The layers of an image in a store, for {@link buildBaseDisk}. */
export function layerSources(store: BlobStore, image: Image): LayerSource[] {
  return image.layers.map(({ digest, diffId }) => ({
    digest,
    diffId,
    open: (signal) => Promise.resolve(store.open(digest, signal)),
  }));
}
