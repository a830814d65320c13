/** Writes OCI layouts and docker archives for tests. */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { makeTar, type TestEntry } from './tar.js';

/** sha256 of bytes as a digest. */
export const digest = (bytes: Buffer | string): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** What to write; fields of the documents can be replaced to break them. */
export interface TestImage {
  readonly layers: readonly (readonly TestEntry[] | Buffer)[];
  readonly config?: Record<string, unknown>;
  readonly architecture?: string;
  readonly layerType?: string;
  readonly name?: string;
  readonly manifest?: Record<string, unknown>;
  readonly diffIds?: readonly string[];
}

interface Blob {
  readonly digest: string;
  readonly size: number;
  readonly bytes: Buffer;
}

const blobOf = (bytes: Buffer): Blob => ({ digest: digest(bytes), size: bytes.length, bytes });
const jsonBlob = (value: unknown): Blob => blobOf(Buffer.from(JSON.stringify(value)));

/** The blobs of an image and its entry for an index. */
function imageBlobs(image: TestImage): { blobs: Blob[]; descriptor: Record<string, unknown> } {
  const tars = image.layers.map((layer) => (Buffer.isBuffer(layer) ? layer : makeTar(layer)));
  const layers = tars.map((tar) => blobOf(gzipSync(tar, { level: 1 })));
  const architecture = image.architecture ?? (process.arch === 'x64' ? 'amd64' : process.arch);
  const config = jsonBlob({
    architecture,
    os: 'linux',
    config: image.config ?? {},
    rootfs: { type: 'layers', diff_ids: image.diffIds ?? tars.map(digest) },
  });
  const manifest = jsonBlob({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: config.digest,
      size: config.size,
    },
    layers: layers.map(({ digest: id, size }) => ({
      mediaType: image.layerType ?? 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest: id,
      size,
    })),
    ...image.manifest,
  });
  const descriptor = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: manifest.digest,
    size: manifest.size,
    platform: { os: 'linux', architecture },
    ...(image.name === undefined ? {} : { annotations: { 'org.opencontainers.image.ref.name': image.name } }),
  };
  return { blobs: [...layers, config, manifest], descriptor };
}

/** Writes images into a new layout directory and returns it. */
export async function writeLayout(directory: string, images: readonly TestImage[]): Promise<string> {
  await mkdir(join(directory, 'blobs', 'sha256'), { recursive: true });
  const manifests: unknown[] = [];
  for (const image of images) {
    const { blobs, descriptor } = imageBlobs(image);
    for (const blob of blobs)
      await writeFile(join(directory, 'blobs', blob.digest.replace(':', '/')), blob.bytes);
    manifests.push(descriptor);
  }
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return directory;
}

/** An archive as `docker save` wrote it, with a layer's second occurrence as a symlink. */
export function makeDockerArchive(layers: readonly Buffer[], tags: readonly string[]): Buffer {
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Cmd: ['/bin/true'] },
      rootfs: { type: 'layers', diff_ids: layers.map(digest) },
    }),
  );
  const configName = `${digest(config).slice('sha256:'.length)}.json`;
  const entries: TestEntry[] = [{ name: configName, content: config }];
  const paths = layers.map((layer, index) => {
    const name = `layer${index}/layer.tar`;
    const first = layers.findIndex((other) => other.equals(layer));
    if (first === index) entries.push({ name, content: layer });
    else entries.push({ name, type: '2', linkName: `../layer${first}/layer.tar` });
    return name;
  });
  const manifest = [{ Config: configName, RepoTags: tags, Layers: paths }];
  return makeTar([...entries, { name: 'manifest.json', content: JSON.stringify(manifest) }]);
}
