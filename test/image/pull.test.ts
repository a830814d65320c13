import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildBaseDisk } from '../../src/formats/oci/base-disk.js';
import { parseReference } from '../../src/formats/oci/reference.js';
import type { Image } from '../../src/image/image.js';
import { pullToDisk } from '../../src/registry/pull-to-disk.js';
import { Puller, type PullerOptions, type PullProgress } from '../../src/registry/puller.js';
import { dumpFiles, fsck } from './support/ext4.js';
import { TestHome, testDiskBytes } from './support/home.js';
import { digest, type TestImage, writeLayout } from './support/layout.js';
import { TestProxy } from './support/proxy.js';
import { TestRegistry } from './support/registry.js';
import type { TestEntry } from './support/tar.js';

/** Bytes that do not compress, the same in each run. */
function noise(length: number, seed: string): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, index) =>
    createHash('sha256').update(`${seed}${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, length);
}

const layerCount = 6;
const layers: TestEntry[][] = Array.from({ length: layerCount }, (_, index) => [
  { name: `file${index}`, content: noise(600_000, `layer ${index}`) },
]);
const app: TestImage = { layers, config: { Cmd: ['/bin/app'] }, name: 'app' };

let home: TestHome;
let registry: TestRegistry;

beforeAll(async () => {
  home = await TestHome.create();
  registry = await TestRegistry.start({ directory: join(home.directory, 'registry') });
  const layout = await writeLayout(join(home.directory, 'layout'), [app]);
  await registry.push(`oci:${layout}:app`, 'team/app:1');
});

afterAll(async () => {
  await registry[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

/** A puller without the credentials of whoever runs the test; ends with `await using`. */
function pullerFor(own: TestHome, options: Partial<PullerOptions> = {}): Puller & AsyncDisposable {
  const puller = new Puller({ store: own.store, credentials: () => Promise.resolve(undefined), ...options });
  return Object.assign(puller, { [Symbol.asyncDispose]: () => puller.close() });
}

const reference = (name: string, path = 'team/app:1') => parseReference(`${name}/${path}`);

/** Blobs and parts in a store. */
async function blobsIn(own: TestHome): Promise<string[]> {
  return (await own.names()).filter((name) => /^store\/(?:blobs\/sha256|partial)\/./.test(name));
}

test('an image comes from a registry into the store and onto a disk', async () => {
  await using own = await TestHome.create();
  await using puller = pullerFor(own);
  const progress: PullProgress[] = [];
  const { image, disk } = await pullToDisk({
    puller,
    store: own.store,
    reference: reference(registry.name),
    onProgress: (each) => progress.push(each),
    makeDisk: ({ manifestDigest }, layers, signal) =>
      buildBaseDisk({ path: own.disk, sizeBytes: testDiskBytes, identity: manifestDigest, layers, signal }),
  });
  expect(image.config.cmd).toEqual(['/bin/app']);
  expect(image.layers.length).toBe(layerCount);
  expect(disk.sizeBytes).toBe(testDiskBytes);
  expect(await fsck(own.disk)).toBe('clean');
  const out = await dumpFiles(own.disk, own.directory);
  for (const index of [0, layerCount - 1]) {
    expect(await readFile(join(out, `file${index}`))).toEqual(noise(600_000, `layer ${index}`));
  }
  for (const { digest: id, sizeBytes } of image.layers) {
    expect(progress.filter((each) => each.digest === id).at(-1)).toMatchObject({
      bytes: sizeBytes,
      totalBytes: sizeBytes,
    });
  }
  expect(await own.store.list()).toHaveLength(layerCount + 2);
});

test('ten pulls at once are one download, and the next one asks for the manifest alone', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own);
  const pulls = Array.from({ length: 10 }, () => puller.pull(reference(proxy.name)));
  const images = await Promise.all(pulls);
  expect(new Set(images.map((image) => image.manifestDigest)).size).toBe(1);
  expect(Object.values(proxy.blobCounts())).toEqual(Array.from({ length: layerCount + 1 }, () => 1));
  const before = proxy.requests.length;
  await puller.pull(reference(proxy.name));
  expect(proxy.requests.slice(before).map((each) => each.path)).toEqual(['/v2/team/app/manifests/1']);
});

test('one of two joined pulls is cancelled, the other gets the image', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own);
  proxy.plan = (path) => (path.includes('/blobs/') ? { pauseMs: 5 } : undefined);
  const controller = new AbortController();
  const first = puller.pull(reference(proxy.name), {
    signal: controller.signal,
    onProgress: () => controller.abort(),
  });
  const second = puller.pull(reference(proxy.name));
  await expect(first).rejects.toMatchObject({ code: 'cancelled' });
  expect((await second).layers.length).toBe(layerCount);
  expect(Object.values(proxy.blobCounts())).toEqual(Array.from({ length: layerCount + 1 }, () => 1));
});

test('a pull that is cancelled can be started again at once', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own);
  proxy.plan = (path) => (path.includes('/blobs/') ? { pauseMs: 5 } : undefined);
  const controller = new AbortController();
  const first = puller.pull(reference(proxy.name), {
    signal: controller.signal,
    onProgress: () => controller.abort(),
  });
  await expect(first).rejects.toMatchObject({ code: 'cancelled' });
  expect((await puller.pull(reference(proxy.name))).layers.length).toBe(layerCount);
  expect((await blobsIn(own)).filter((name) => name.includes('partial'))).toEqual([]);
});

test('broken connections are resumed where they broke', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own);
  proxy.plan = (path, before) =>
    path.includes('/blobs/') && before < 2 ? { cutAfterBytes: 200_000 } : undefined;
  await puller.pull(reference(proxy.name));
  const resumed = proxy.requests.flatMap((each) => each.range ?? []);
  expect(resumed.length).toBeGreaterThanOrEqual(layerCount);
  for (const range of resumed) expect(Number(/bytes=(\d+)-/.exec(range)?.[1])).toBeGreaterThan(100_000);
});

test('a registry without ranges, or one that ends early and says nothing, is asked again', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own);
  proxy.plan = (path, before) => {
    if (!path.includes('/blobs/')) return undefined;
    return before === 0 ? { endAfterBytes: 200_000 } : { dropRange: true };
  };
  expect((await puller.pull(reference(proxy.name))).layers.length).toBe(layerCount);
});

test('a registry that stalls is asked again', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own, { timeouts: { connectMs: 2000, headersMs: 2000, stallMs: 300 } });
  proxy.plan = (path, before) =>
    path.includes('/blobs/') && before === 0 ? { stallAfterBytes: 100_000 } : undefined;
  expect((await puller.pull(reference(proxy.name))).layers.length).toBe(layerCount);
});

test('a registry killed in the middle and restarted: finished blobs are not fetched again', async () => {
  await using own = await TestHome.create();
  await using other = await TestRegistry.start({ directory: join(own.directory, 'registry') });
  await other.push(`oci:${join(home.directory, 'layout')}:app`, 'team/app:1');
  await using proxy = await TestProxy.start(other.port);
  await using puller = pullerFor(own, { parallelDownloads: 1 });
  let killed: Promise<void> | undefined;
  const finished = new Set<string>();
  const image: Image = await puller.pull(reference(proxy.name), {
    onProgress: ({ digest: id, bytes, totalBytes }) => {
      if (bytes < totalBytes) return;
      finished.add(id);
      if (finished.size === 3) killed ??= other.restart();
    },
  });
  await killed;
  expect(killed).toBeDefined();
  expect(image.layers.length).toBe(layerCount);
  const counts = proxy.blobCounts();
  for (const id of [...finished].slice(0, 3)) expect(counts[id]).toBe(1);
});

test('a part left by a crash, even a damaged one, is used or dropped', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own);
  const whole = await pullerFor(home).pull(reference(registry.name));
  const [first, second] = whole.layers.map((layer) => layer.digest);
  await mkdir(join(own.directory, 'store/partial'), { recursive: true });
  const partOf = (id = ''): string => join(own.directory, 'store/partial', id.slice('sha256:'.length));
  await writeFile(partOf(first), (await readFile(home.store.path(first ?? ''))).subarray(0, 300_000));
  await writeFile(partOf(second), Buffer.alloc(300_000));
  await puller.pull(reference(proxy.name));
  const ranges = proxy.requests.flatMap(({ path, range }) =>
    path.endsWith(first ?? '') || path.endsWith(second ?? '') ? [range] : [],
  );
  expect(ranges.sort()).toEqual(['bytes=300000-', 'bytes=300000-', undefined]);
  expect(digest(await readFile(own.store.path(second ?? '')))).toBe(second);
});

test('a mirror is asked first, and the registry itself for what the mirror does not have', async () => {
  await using own = await TestHome.create();
  await using mirror = await TestProxy.start(registry.port);
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own, {
    registries: { [proxy.name]: { mirrors: [`http://${mirror.name}`] } },
  });
  let lacking: string | undefined;
  mirror.plan = (path) => {
    if (path.includes('/blobs/')) lacking ??= path;
    return path === lacking ? { answer: { status: 404 } } : undefined;
  };
  await puller.pull(reference(proxy.name));
  expect(proxy.requests.map((each) => each.path).filter((path) => path !== '/v2/')).toEqual([lacking]);
});

test('a tag, a digest, and both name the same image', async () => {
  await using own = await TestHome.create();
  await using puller = pullerFor(own);
  const byTag = await puller.pull(reference(registry.name));
  const byDigest = await puller.pull(reference(registry.name, `team/app@${byTag.manifestDigest}`));
  const byBoth = await puller.pull(reference(registry.name, `team/app:other@${byTag.manifestDigest}`));
  expect([byDigest, byBoth]).toEqual([byTag, byTag]);
});

test('a cancelled pull leaves parts only, no disk', async () => {
  await using own = await TestHome.create();
  await using proxy = await TestProxy.start(registry.port);
  await using puller = pullerFor(own);
  proxy.plan = (path) => (path.includes('/blobs/') ? { pauseMs: 5 } : undefined);
  const controller = new AbortController();
  const pulling = pullToDisk({
    puller,
    store: own.store,
    reference: reference(proxy.name),
    signal: controller.signal,
    onProgress: () => controller.abort(),
    makeDisk: ({ manifestDigest }, layers, signal) =>
      buildBaseDisk({ path: own.disk, sizeBytes: testDiskBytes, identity: manifestDigest, layers, signal }),
  });
  await expect(pulling).rejects.toMatchObject({ code: 'cancelled' });
  expect(await own.names()).not.toContain('disk.ext4');
});
