/** Archives of `docker save` before it wrote OCI layouts (moby, "Docker Image Specification v1.2", "Combined Image JSON + Filesystem Changeset Format"). */
import { z } from 'zod';
import { CryoboxError } from '../errors.js';
import { parseConfig } from '../formats/oci/config.js';
import { digestOf } from '../formats/oci/digest.js';
import { type ImageManifest, mediaTypes, parseDocument } from '../formats/oci/documents.js';
import type { ImageFiles } from '../formats/oci/layout.js';
import { describeImage } from './image.js';
import type { ImportedImage, ImportRequest } from './oci-layout.js';

const manifestPath = 'manifest.json';

const schema = z.array(
  z.object({ Config: z.string(), RepoTags: z.array(z.string()).nullish(), Layers: z.array(z.string()) }),
);
type ArchivedImage = z.infer<typeof schema>[number];

/** Whether files are an archive of `docker save`. */
export async function isDockerArchive(files: ImageFiles): Promise<boolean> {
  return await files.has(manifestPath);
}

/**
 * Copies the image from an archive into the store and gives it an OCI manifest, which such an archive lacks.
 * Each layer is verified against the config when it is unpacked. Throws `image_invalid`, `image_refused`, `unsupported`.
 */
export async function importDockerArchive(files: ImageFiles, request: ImportRequest): Promise<ImportedImage> {
  const { store, limits, platform, signal, onProgress } = request;
  const images = parseDocument(
    await files.read(manifestPath, limits.maxDocumentBytes),
    schema,
    'manifest.json',
  );
  const image = chooseImage(images, request.tag, files.name);
  if (image.Layers.length > limits.maxLayers) {
    throw new CryoboxError(
      'image_refused',
      `the image has ${image.Layers.length} layers; at most ${limits.maxLayers} are taken`,
    );
  }
  const configBytes = await files.read(image.Config, limits.maxDocumentBytes);
  checkConfigName(image.Config, configBytes);
  const { diffIds } = parseConfig(configBytes);
  const layers: ImageManifest['layers'] = [];
  for (const [index, path] of image.Layers.entries()) {
    const blob = await store.putUnknown({
      open: (offset) => files.open(path, offset, signal),
      onProgress: (bytes) => onProgress?.({ digest: diffIds[index] ?? path, bytes, totalBytes: bytes }),
    });
    layers.push({ mediaType: mediaTypes.layer, digest: blob.digest, size: blob.sizeBytes });
  }
  const manifest: ImageManifest = {
    config: { mediaType: mediaTypes.config, digest: digestOf(configBytes), size: configBytes.length },
    layers,
  };
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.manifest, ...manifest }),
  );
  const described = describeImage({ digest: digestOf(bytes), bytes, manifest }, configBytes, platform);
  await store.putBytes(configBytes);
  await store.putBytes(bytes);
  return { ...described, name: image.RepoTags?.[0] };
}

function chooseImage(
  images: readonly ArchivedImage[],
  tag: string | undefined,
  source: string,
): ArchivedImage {
  const only = images.length === 1 ? images[0] : undefined;
  const chosen = tag === undefined ? only : images.find((image) => image.RepoTags?.includes(tag));
  if (chosen) return chosen;
  const known = images.flatMap((image) => image.RepoTags ?? []).join(', ') || 'none with a name';
  const problem =
    tag === undefined ? `holds ${images.length} images` : `holds no image ${JSON.stringify(tag)}`;
  throw new CryoboxError('invalid_argument', `${source} ${problem}; it has: ${known}`, {
    hint: 'Name one of its images.',
  });
}

/** Docker names a config by its digest; one that does not match was damaged or tampered with. */
function checkConfigName(path: string, bytes: Buffer): void {
  const hex = /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(path)?.[1];
  if (hex === undefined || digestOf(bytes) === `sha256:${hex}`) return;
  throw new CryoboxError('image_invalid', `the config ${path} has the digest ${digestOf(bytes)}`);
}
