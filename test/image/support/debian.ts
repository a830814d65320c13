/** A Debian image that is made once and kept, because making it takes many seconds and the network. */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildDebianImage } from '../../../src/image/build.js';
import { type Image, loadImage } from '../../../src/image/image.js';
import { defaultLimits } from '../../../src/image/limits.js';
import { BlobStore } from '../../../src/image/store.js';

const directory = join(import.meta.dirname, '../../../.cache/test-images');
/** Changes with what is asked for, so that another request makes another image. */
const key = 'bookworm+busybox-static-1';

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
    suite: 'bookworm',
    packages: ['busybox-static'],
    store: new BlobStore(join(fresh, 'store')),
    scratchDirectory: join(fresh, 'scratch'),
  });
  await writeFile(join(fresh, 'manifest-digest'), image.manifestDigest);
  await rename(fresh, home);
  return { image, store };
}
