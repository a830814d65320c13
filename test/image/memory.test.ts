import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { builtEntry } from '../support/built.js';
import { TestHome } from './support/home.js';

/** Issue 5: what a conversion may take beside what a process of ours takes anyway. */
const mostBytes = 256 * 2 ** 20;

/** Builds a disk in a process of its own and says how much memory that took at its highest. */
const script = `
  const { readFile } = await import('node:fs/promises');
  const [images, formats, store, manifestDigest, path] = process.argv.slice(1);
  const { BlobStore, layerSources, loadImage } = await import(images);
  const { buildBaseDisk, defaultImageLimits } = await import(formats);
  const blobs = new BlobStore(store);
  const image = await loadImage(blobs, manifestDigest, defaultImageLimits);
  const before = process.memoryUsage.rss();
  await buildBaseDisk({ path, identity: manifestDigest, layers: layerSources(blobs, image) });
  const status = await readFile('/proc/self/status', 'utf8');
  console.log(Number(/VmHWM:\\s+(\\d+)/.exec(status)[1]) * 1024 - before);
`;

test.each([
  ['100,000 files', () => Array.from({ length: 100_000 }, (_, at) => ({ name: `d${at % 100}/f${at}` }))],
  ['one file of 300 MB', () => [{ name: 'large', content: Buffer.alloc(300_000_000, 'content ') }]],
])('a layer of %s is unpacked with little memory', async (_, entries) => {
  await using home = await TestHome.create();
  const image = await home.import({ layers: [entries()] });
  const modules = [await builtEntry('image/index.ts'), await builtEntry('formats/oci/index.ts')];
  const args = [...modules, join(home.directory, 'store'), image.manifestDigest, home.disk];
  const run = promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, ...args], {
    timeout: 50_000,
  });
  const bytes = Number((await run).stdout);
  expect(bytes).toBeGreaterThan(0);
  expect(bytes).toBeLessThan(mostBytes);
});
