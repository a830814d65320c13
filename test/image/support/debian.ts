/** A Debian image that is made once and kept, because making it takes many seconds and the network. */
import { createWriteStream } from 'node:fs';
import { copyFile, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { decompress } from '../../../src/formats/oci/decompress.js';
import { digestOf } from '../../../src/formats/oci/digest.js';
import { mediaTypes } from '../../../src/formats/oci/documents.js';
import { defaultLimits } from '../../../src/formats/oci/limits.js';
import { buildDebianImage } from '../../../src/image/build.js';
import { type Image, loadImage } from '../../../src/image/image.js';
import { debianContents } from '../../../src/image/recipes.js';
import { BlobStore } from '../../../src/image/store.js';

const directory = join(import.meta.dirname, '../../../.cache/test-images');
/** Changes with what is asked for, so that another request makes another image. */
const key = 'bookworm+busybox-static+sudo-1';

/** The image, built by the code under test, and the store that holds it. Its store must not be changed. */
export async function debianImage(): Promise<{ image: Image; store: BlobStore }> {
  const home = join(directory, key);
  const store = new BlobStore(join(home, 'store'));
  const marker = join(home, 'manifest-digest');
  const known = await readFile(marker, 'utf8').catch(() => undefined);
  if (known !== undefined) return { image: await loadImage(store, known, defaultLimits), store };
  const fresh = `${home}.${process.pid}`;
  await rm(home, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  const image = await buildDebianImage({
    // Finished as images of recipes are, with few packages.
    ...debianContents({ recipe: 'python' }),
    packages: ['busybox-static', 'sudo'],
    store: new BlobStore(join(fresh, 'store')),
    scratchDirectory: join(fresh, 'scratch'),
  });
  await writeFile(join(fresh, 'manifest-digest'), image.manifestDigest);
  await rename(fresh, home);
  return { image, store };
}

/** The image as an OCI layout with one plain layer, which tools that know no zstd can read. */
export async function debianLayout(directory: string, tag: string): Promise<void> {
  const { image, store } = await debianImage();
  const layer = image.layers[0];
  if (!layer) throw new Error('the image has no layer');
  const blobs = join(directory, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const fileOf = (id: string): string => join(blobs, id.slice('sha256:'.length));
  await pipeline(decompress(store.open(layer.digest)), createWriteStream(fileOf(layer.diffId)));
  await copyFile(store.path(image.configDigest), fileOf(image.configDigest));
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: {
      mediaType: mediaTypes.config,
      digest: image.configDigest,
      size: await store.verifiedSize(image.configDigest),
    },
    layers: [
      { mediaType: mediaTypes.layer, digest: layer.diffId, size: (await stat(fileOf(layer.diffId))).size },
    ],
  });
  await writeFile(fileOf(digestOf(Buffer.from(manifest))), manifest);
  const descriptor = {
    mediaType: mediaTypes.manifest,
    digest: digestOf(Buffer.from(manifest)),
    size: manifest.length,
  };
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  await writeFile(
    join(directory, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [{ ...descriptor, annotations }] }),
  );
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}
