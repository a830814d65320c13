/** OCI image layouts (OCI image spec, "Image Layout"). */
import { CryoboxError } from '../errors.js';
import { digestOf, hexOf } from '../formats/oci/digest.js';
import { type Descriptor, parseIndex } from '../formats/oci/documents.js';
import type { ImageFiles } from '../formats/oci/layout.js';
import type { ImageLimits } from '../formats/oci/limits.js';
import type { Platform } from '../formats/oci/platform.js';
import { chooseManifest, type DocumentReader, describeImage, type Image } from './image.js';
import type { BlobStore } from './store.js';

const indexPath = 'index.json';
/** Where tools write an image's name: the specification's annotation, usually the tag alone, and containerd's with the whole reference. */
const tagAnnotation = 'org.opencontainers.image.ref.name';
const nameAnnotation = 'io.containerd.image.name';

/** What is asked of an image source. */
export interface ImportRequest {
  readonly store: BlobStore;
  readonly platform: Platform;
  /** Name of an image in a source with several. */
  readonly tag?: string;
  readonly limits: ImageLimits;
  readonly signal?: AbortSignal;
  /** Called with the bytes stored of each layer. */
  readonly onProgress?: (progress: {
    readonly digest: string;
    readonly bytes: number;
    readonly totalBytes: number;
  }) => void;
}

/** An image that now lies in the store, with the name its source gives it. */
export interface ImportedImage extends Image {
  readonly name: string | undefined;
}

/** Whether files are an OCI layout. */
export async function isOciLayout(files: ImageFiles): Promise<boolean> {
  return await files.has(indexPath);
}

/** Copies the image for a platform from an OCI layout into the store. Throws `image_invalid`, `image_refused`, `unsupported`. */
export async function importOciLayout(files: ImageFiles, request: ImportRequest): Promise<ImportedImage> {
  const { store, platform, limits, signal, onProgress } = request;
  const read: DocumentReader = async ({ digest, size }) => {
    const bytes = await files.read(blobPath(digest), limits.maxDocumentBytes);
    if (bytes.length !== size || digestOf(bytes) !== digest) {
      throw new CryoboxError(
        'image_invalid',
        `the blob ${digest} of ${size} bytes has ${bytes.length} bytes and the digest ${digestOf(bytes)}`,
      );
    }
    return bytes;
  };
  const top = parseIndex(await files.read(indexPath, limits.maxDocumentBytes));
  const named = chooseByTag(top.manifests, request.tag, files.name);
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: named }));
  const chosen = await chooseManifest({ digest: digestOf(index), bytes: index }, platform, read, limits);
  const configBytes = await read(chosen.manifest.config);
  const image = describeImage(chosen, configBytes, platform);
  for (const { digest, sizeBytes } of image.layers) {
    await store.put(digest, {
      sizeBytes,
      signal,
      open: (offset) => files.open(blobPath(digest), offset, signal),
      onProgress: (bytes) => onProgress?.({ digest, bytes, totalBytes: sizeBytes }),
    });
  }
  await store.putBytes(configBytes);
  await store.putBytes(chosen.bytes);
  return { ...image, name: named.map(nameOf).find((name) => name !== undefined) };
}

/** The manifests of one name; all when the layout holds one image for several platforms. */
function chooseByTag(
  manifests: readonly Descriptor[],
  tag: string | undefined,
  source: string,
): Descriptor[] {
  const names = new Set(manifests.map(nameOf));
  if (tag === undefined && names.size <= 1) return [...manifests];
  const matching = manifests.filter((manifest) => tag !== undefined && tagsOf(manifest).includes(tag));
  if (matching.length > 0) return matching;
  const known = [...names].filter((name) => name !== undefined).join(', ') || 'none';
  const problem = tag === undefined ? 'holds several images' : `holds no image ${JSON.stringify(tag)}`;
  throw new CryoboxError('invalid_argument', `${source} ${problem}; it has: ${known}`, {
    hint: 'Name one of its images.',
  });
}

function tagsOf(manifest: Descriptor): string[] {
  return [manifest.annotations?.[tagAnnotation], manifest.annotations?.[nameAnnotation]].filter(
    (name) => name !== undefined,
  );
}

function nameOf(manifest: Descriptor): string | undefined {
  return manifest.annotations?.[nameAnnotation] ?? manifest.annotations?.[tagAnnotation];
}

function blobPath(digest: string): string {
  return `blobs/sha256/${hexOf(digest)}`;
}
