import { createHash } from 'node:crypto';
import { hasZstd, zstdCompress } from '../formats/oci/compress.js';
import type { ImageConfig } from '../formats/oci/config.js';
import { digestFrom, digestOf } from '../formats/oci/digest.js';
import { mediaTypes } from '../formats/oci/documents.js';
import type { Platform } from '../formats/oci/platform.js';
import { describeImage, type Image } from './image.js';
import type { BlobStore } from './store.js';

/** A layer in a store. */
type LayerFacts = Image['layers'][number];

/** Stores a tar as a layer, compressed where zstd is installed. Throws what the tar throws, `disk_full`. */
export async function putLayer(
  store: BlobStore,
  tar: AsyncIterable<Buffer>,
  signal?: AbortSignal,
): Promise<LayerFacts> {
  const isCompressed = await hasZstd();
  const hash = createHash('sha256');
  async function* hashed(): AsyncGenerator<Buffer> {
    for await (const chunk of tar) {
      hash.update(chunk);
      yield chunk;
    }
  }
  const bytes = hashed();
  const blob = await store.putUnknown({
    open: () => Promise.resolve(isCompressed ? zstdCompress(bytes, signal) : bytes),
  });
  return {
    digest: blob.digest,
    diffId: digestFrom(hash),
    mediaType: isCompressed ? mediaTypes.layerZstd : mediaTypes.layer,
    sizeBytes: blob.sizeBytes,
  };
}

/** What an image is put together of. */
export interface ImageParts {
  /** In the store, the lowest first. */
  readonly layers: readonly LayerFacts[];
  readonly config: ImageConfig;
  readonly platform: Platform;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** Stores the manifest and the config of an image whose layers are there (OCI image spec). Throws `disk_full`. */
export async function putImage(store: BlobStore, parts: ImageParts): Promise<Image> {
  const { layers, platform } = parts;
  const configBytes = Buffer.from(
    JSON.stringify({
      created: parts.createdAt,
      ...platform,
      config: configDocument(parts.config),
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const manifest = {
    config: { mediaType: mediaTypes.config, digest: digestOf(configBytes), size: configBytes.length },
    layers: layers.map(({ digest, mediaType, sizeBytes }) => ({ mediaType, digest, size: sizeBytes })),
  };
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.manifest, ...manifest }),
  );
  await store.putBytes(configBytes);
  await store.putBytes(bytes);
  return describeImage({ digest: digestOf(bytes), bytes, manifest }, configBytes);
}

/** A configuration as the document has it (OCI image spec, "Image Configuration"). */
function configDocument(config: ImageConfig): Readonly<Record<string, unknown>> {
  const keys = (names: readonly string[]): unknown =>
    names.length === 0 ? undefined : Object.fromEntries(names.map((name) => [name, {}]));
  return {
    Env: Object.entries(config.env).map((each) => each.join('=')),
    Cmd: config.cmd.length > 0 ? config.cmd : undefined,
    Entrypoint: config.entrypoint.length > 0 ? config.entrypoint : undefined,
    WorkingDir: config.workingDir,
    User: config.user || undefined,
    Labels: Object.keys(config.labels).length > 0 ? config.labels : undefined,
    ExposedPorts: keys(config.exposedPorts),
    Volumes: keys(config.volumes),
    StopSignal: config.stopSignal,
  };
}
