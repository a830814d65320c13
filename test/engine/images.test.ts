import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { writeLayout } from '../image/support/layout.js';
import { TestProxy } from '../image/support/proxy.js';
import { TestRegistry } from '../image/support/registry.js';
import type { TestEntry } from '../image/support/tar.js';
import { newHome, type TestHome } from '../support/home.js';
import { temporaryDirectory } from '../support/temporary.js';
import { writeTinyImage } from '../support/tiny-image.js';
import { failureOf } from './support.js';

let directory: string;
let registry: TestRegistry;
let proxy: TestProxy;
let home: TestHome;
let engine: Engine;
let runtime: Runtime;

/** An image as `tiny`, with a file of its own, under a name of the registry. */
async function pushTiny(path: string, hello: string, bytes = 0): Promise<void> {
  const layout = await mkdtemp(join(directory, 'tiny-'));
  const noise = randomBytes(bytes / 2).toString('hex');
  await writeTinyImage(layout, { files: { hello, noise }, config: { WorkingDir: '/tmp' } });
  await registry.push(`oci:${layout}`, path);
}

async function pushLayers(path: string, layers: readonly (readonly TestEntry[])[]): Promise<void> {
  const layout = await writeLayout(await mkdtemp(join(directory, 'layers-')), [{ layers }]);
  await registry.push(`oci:${layout}`, path);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-images-'));
  registry = await TestRegistry.start({ directory: join(directory, 'registry') });
  proxy = await TestProxy.start(registry.port);
  home = await newHome();
  engine = await Engine.open({ home: home.path, poolSize: 0 });
  runtime = engine.runtime();
  await pushTiny('team/app:1', 'one');
  // The boxes that warmed the seed have left their heads.
  await runtime.gc();
});

afterAll(async () => {
  for (const box of await runtime.list()) await runtime.remove(box.id, { force: true });
  await engine.close();
  await home[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

const named = (path: string): string => `${proxy.name}/${path}`;
/** Everything a home holds of images: blobs, parts of them, and layers' files. */
async function filesOf(path: string): Promise<{ blobs: string[]; parts: string[]; layers: string[] }> {
  const names = async (folder: string) => (await readdir(join(path, folder)).catch(() => [])).sort();
  return {
    blobs: await names('images/blobs/sha256'),
    parts: await names('images/partial'),
    layers: await names('layers'),
  };
}
const blobRequests = () => Object.values(proxy.blobCounts()).reduce((sum, count) => sum + count, 0);

describe('an image of a registry', () => {
  it('is pulled, listed, found by reference and id, and removed with all it brought', async () => {
    const before = await filesOf(home.path);
    const last = new Map<string, number>();
    const pulled = await runtime.images.pull(named('team/app:1'), {
      onProgress: ({ stage, item, doneBytes, totalBytes }) => {
        expect(stage).toBe('layer');
        last.set(item ?? '', doneBytes - (totalBytes ?? 0));
      },
    });
    expect(pulled).toMatchObject({ reference: named('team/app:1'), layerCount: 1 });
    expect([...last.values()]).toEqual([0]);
    const info = await runtime.images.get(named('team/app:1'));
    expect(info).toMatchObject({
      reference: named('team/app:1'),
      repository: named('team/app'),
      tag: '1',
      id: pulled.configDigest,
      sizeBytes: pulled.sizeBytes,
    });
    expect(Date.now() - (info?.cachedAt.getTime() ?? 0)).toBeLessThan(60_000);
    expect(await runtime.images.get(pulled.configDigest)).toEqual(info);
    expect(await runtime.images.get(pulled.configDigest.slice(7, 19))).toEqual(info);
    expect(await runtime.images.list()).toContainEqual(info);
    expect((await filesOf(home.path)).layers).toHaveLength(before.layers.length + 1);
    await runtime.images.remove(named('team/app:1'));
    expect(await runtime.images.get(named('team/app:1'))).toBeNull();
    await runtime.gc();
    expect(await filesOf(home.path)).toEqual(before);
    const again = failureOf(runtime.images.remove(named('team/app:1')));
    expect(await again).toMatchObject({ code: 'image_not_found' });
  });

  it('is downloaded once by ten pulls at once, and made into one disk that boxes share', async () => {
    await pushTiny('team/ten:1', 'ten');
    const { layers } = await filesOf(home.path);
    const requests = blobRequests();
    const pulls = Array.from({ length: 10 }, () => runtime.images.pull(named('team/ten:1')));
    const results = await Promise.all(pulls);
    expect(new Set(results.map((result) => result.manifestDigest)).size).toBe(1);
    // One layer and the config.
    expect(blobRequests() - requests).toBe(2);
    expect((await filesOf(home.path)).layers).toHaveLength(layers.length + 1);

    const asked = proxy.requests.length;
    await runtime.images.pull(named('team/ten:1'));
    expect(proxy.requests.slice(asked).map(({ path }) => path)).toEqual(['/v2/team/ten/manifests/1']);

    const stages: string[] = [];
    const onProgress = ({ stage }: { stage: string }): number => stages.push(stage);
    for (const _ of [1, 2]) {
      await using box = await runtime.create({ image: named('team/ten:1'), onProgress });
      expect((await box.exec(['cat', '/hello'])).stdout.toString()).toBe('ten');
      expect((await box.exec(['pwd'])).stdout.toString()).toBe('/tmp\n');
      await box.remove({ force: true });
    }
    expect(stages).not.toContain('unpack');
    await runtime.gc();
    expect((await filesOf(home.path)).layers).toHaveLength(layers.length + 1);
  });

  it('is pulled by the box that needs it', async () => {
    await pushTiny('team/needed:1', 'needed');
    const box = await runtime.create({ image: named('team/needed:1') });
    expect((await box.exec(['cat', '/hello'])).stdout.toString()).toBe('needed');
    expect(await box.info()).toMatchObject({ image: named('team/needed:1') });
    await box.remove({ force: true });
  });

  it('is removed by force under a box, which goes on, also after stop and start', async () => {
    await pushTiny('team/used:1', 'used');
    const reference = named('team/used:1');
    await runtime.images.pull(reference);
    const box = await runtime.create({ image: reference, name: 'user', detach: true });
    const refused = await failureOf(runtime.images.remove(reference));
    expect(refused).toMatchObject({ code: 'invalid_state', message: expect.stringContaining('user') });
    expect(await runtime.images.prune()).not.toContain(reference);
    await runtime.images.remove(reference, { force: true });
    await runtime.gc();
    expect((await box.exec(['cat', '/hello'])).stdout.toString()).toBe('used');
    await box.exec(['sh', '-c', 'echo kept > /root/own']);
    await box.stop();
    await box.start();
    expect((await box.exec(['cat', '/hello', '/root/own'])).stdout.toString()).toBe('usedkept\n');
    const { layers } = await filesOf(home.path);
    await box.remove({ force: true });
    await runtime.gc();
    // Its two heads and the disk nothing names any more.
    expect((await filesOf(home.path)).layers).toHaveLength(layers.length - 3);
  });

  it('gives its reference to what the registry has now, and lets go of what it was', async () => {
    await pushTiny('team/moved:1', 'old');
    const old = await runtime.images.pull(named('team/moved:1'));
    const before = await filesOf(home.path);
    await pushTiny('team/moved:1', 'new');
    const missing = await runtime.images.pull(named('team/moved:1'), { pullPolicy: 'missing' });
    expect(missing).toEqual(old);
    const now = await runtime.images.pull(named('team/moved:1'));
    expect(now.configDigest).not.toBe(old.configDigest);
    await runtime.gc();
    const after = await filesOf(home.path);
    expect([after.blobs.length, after.layers.length]).toEqual([before.blobs.length, before.layers.length]);
    expect(after.blobs).not.toContain(old.configDigest.slice(7));
  });

  it('is asked for as the policy says', async () => {
    await pushTiny('team/policy:1', 'policy');
    const reference = named('team/policy:1');
    const requests = proxy.requests.length;
    const never = failureOf(runtime.images.pull(reference, { pullPolicy: 'never' }));
    expect(await never).toMatchObject({ code: 'image_not_found' });
    expect(proxy.requests).toHaveLength(requests);
    const first = await runtime.images.pull(reference, { pullPolicy: 'missing' });
    const afterFirst = proxy.requests.length;
    expect(await runtime.images.pull(reference, { pullPolicy: 'missing' })).toEqual(first);
    expect(await runtime.images.pull(reference, { pullPolicy: 'never' })).toEqual(first);
    expect(proxy.requests).toHaveLength(afterFirst);
    await runtime.images.pull(reference, { pullPolicy: 'always' });
    expect(proxy.requests.length).toBeGreaterThan(afterFirst);
  });
});

describe('tenants', () => {
  it("see their own images, share what these are made of, and keep it when another's goes", async () => {
    await pushTiny('team/shared:1', 'shared');
    const reference = named('team/shared:1');
    const acme = engine.runtime('acme');
    await runtime.images.pull(reference);
    expect(await acme.images.get(reference)).toBeNull();
    expect(await acme.images.list()).toEqual([]);
    const hidden = await failureOf(acme.images.remove(reference));
    expect(hidden).toMatchObject({ code: 'image_not_found' });
    const requests = blobRequests();
    const { layers } = await filesOf(home.path);
    await acme.images.pull(reference);
    expect(blobRequests()).toBe(requests);
    expect((await filesOf(home.path)).layers).toEqual(layers);
    await runtime.images.remove(reference);
    await runtime.gc();
    const box = await acme.create({ image: reference });
    expect((await box.exec(['cat', '/hello'])).stdout.toString()).toBe('shared');
    await box.remove({ force: true });
    expect(await acme.images.prune()).toEqual([reference]);
  });
});

describe('a registry', () => {
  it("gets the owner's credentials for pulls of the owner, and none for those of other tenants", async () => {
    await pushTiny('team/private:1', 'private');
    const auth = Buffer.from('ann:secret').toString('base64');
    const config = join(directory, 'docker');
    await mkdir(config);
    await writeFile(join(config, 'config.json'), JSON.stringify({ auths: { [proxy.name]: { auth } } }));
    await using other = await newHome();
    vi.stubEnv('DOCKER_CONFIG', config);
    await using own = await Engine.open({ home: other.path, poolSize: 0 });
    const { plan } = proxy;
    proxy.plan = (_path, _before, { headers }) =>
      headers.authorization === `Basic ${auth}`
        ? undefined
        : { answer: { status: 401, headers: { 'www-authenticate': 'Basic realm="team"' } } };
    const reference = named('team/private:1');
    const asked = proxy.requests.length;
    const refused = await failureOf(own.runtime('acme').images.pull(reference));
    expect(refused).toMatchObject({ code: 'unauthenticated' });
    expect(proxy.requests.slice(asked).flatMap(({ authorization }) => authorization ?? [])).toEqual([]);
    expect(await own.runtime().images.pull(reference)).toMatchObject({ reference });
    const registry = { username: 'ann', password: 'secret' };
    expect(await own.runtime('acme').images.pull(reference, { registry })).toMatchObject({ reference });
    proxy.plan = plan;
    vi.unstubAllEnvs();
  });

  it('is reached as the settings of the home say', async () => {
    await pushTiny('team/mirrored:1', 'mirrored');
    const settings = join(home.path, 'registries.json');
    await writeFile(settings, JSON.stringify({ 'no.such.host': { mirrors: [`http://${proxy.name}`] } }));
    const box = await runtime.create({ image: 'no.such.host/team/mirrored:1' });
    expect((await box.exec(['cat', '/hello'])).stdout.toString()).toBe('mirrored');
    await box.remove({ force: true });
    await writeFile(settings, JSON.stringify({ 'no.such.host': { mirror: 'x' } }));
    const failure = await failureOf(runtime.images.pull('no.such.host/team/mirrored:1'));
    expect(failure).toMatchObject({ code: 'config_error', message: expect.stringContaining('mirror') });
    await rm(settings);
  });
});

describe('a pull that breaks', () => {
  it('leaves nothing that looks complete, and goes on where it broke', async () => {
    await pushTiny('team/broken:1', 'broken', 4_000_000);
    const reference = named('team/broken:1');
    await runtime.gc();
    const before = await filesOf(home.path);
    const { plan } = proxy;
    for (const share of [0, 0.01, 0.4, 0.7]) {
      const stop = new AbortController();
      proxy.plan = (path) => (path.includes('/blobs/') ? { pauseMs: 5 } : undefined);
      const pull = runtime.images.pull(reference, {
        signal: stop.signal,
        onProgress: ({ doneBytes, totalBytes = 0 }) => doneBytes >= share * totalBytes && stop.abort(),
      });
      expect(await failureOf(pull)).toMatchObject({ code: 'cancelled' });
      expect(await runtime.images.get(reference)).toBeNull();
      expect((await filesOf(home.path)).layers).toEqual(before.layers);
    }
    proxy.plan = plan;
    const asked = proxy.requests.length;
    await runtime.images.pull(reference);
    const ranges = proxy.requests.slice(asked).flatMap(({ range }) => range ?? []);
    expect(Number(/^bytes=(\d+)-$/.exec(ranges[0] ?? '')?.[1])).toBeGreaterThan(1_000_000);
    expect((await filesOf(home.path)).parts).toEqual([]);
    await runtime.images.remove(reference);
    await runtime.gc();
    expect(await filesOf(home.path)).toEqual(before);
  });

  it('goes on in the next engine when registry and engine end in the middle', async () => {
    await pushTiny('team/dying:1', 'dying', 4_000_000);
    const reference = named('team/dying:1');
    const { plan } = proxy;
    proxy.plan = (path, before) => {
      if (path.includes('/manifests/')) return undefined;
      return before === 0 ? { cutAfterBytes: 1_000_000 } : { answer: { status: 503 } };
    };
    const begun = proxy.requests.length;
    const failure = failureOf(runtime.images.pull(reference, { onProgress: () => registry.kill() }));
    while (!proxy.requests.slice(begun).some(({ range }) => range)) await turn();
    await engine.close();
    expect(await failure).toMatchObject({ code: 'engine_unavailable' });
    proxy.plan = plan;
    await registry.restart();
    engine = await Engine.open({ home: home.path, poolSize: 0 });
    runtime = engine.runtime();
    expect(await runtime.images.get(reference)).toBeNull();
    const asked = proxy.requests.length;
    await runtime.images.pull(reference);
    const blobs = proxy.requests.slice(asked).filter(({ path }) => path.includes('/blobs/'));
    expect(blobs.map(({ range }) => range)).toEqual([expect.stringMatching(/^bytes=\d{5,}-$/)]);
  });

  it('does not hold up the engine that closes', async () => {
    await pushTiny('team/slow:1', 'slow', 1_000_000);
    await using other = await newHome();
    const second = await Engine.open({ home: other.path, poolSize: 0 });
    const { plan } = proxy;
    proxy.plan = (path) => (path.includes('/blobs/') ? { stallAfterBytes: 100_000 } : undefined);
    let failure: ReturnType<typeof failureOf> | undefined;
    await new Promise<void>((resolve) => {
      const pull = second.runtime().images.pull(named('team/slow:1'), { onProgress: () => resolve() });
      failure = failureOf(pull);
    });
    await second.close();
    proxy.plan = plan;
    expect(await failure).toMatchObject({ code: 'engine_unavailable' });
  });

  it('gives way at once to another pull of the same image', async () => {
    await pushTiny('team/left:1', 'left', 1_000_000);
    const { plan } = proxy;
    proxy.plan = (path) => (path.includes('/blobs/') ? { pauseMs: 5 } : undefined);
    const stop = new AbortController();
    const signal = stop.signal;
    const first = runtime.images.pull(named('team/left:1'), { signal, onProgress: () => stop.abort() });
    const [failure, pulled] = await Promise.all([
      failureOf(first),
      runtime.images.pull(named('team/left:1')),
    ]);
    proxy.plan = plan;
    expect(failure).toMatchObject({ code: 'cancelled' });
    expect(await runtime.images.get(pulled.configDigest)).not.toBeNull();
  });
});

describe('an image that is bad', () => {
  it.each([
    ['leads out of its root', [[{ name: 'a/../../etc/passwd' }]], 'image_refused'],
    ['links to nothing', [[{ name: 'x', type: '1', linkName: 'y' }]], 'image_invalid'],
  ] as const)('is refused when it %s, pulled or imported, and nothing is left', async (_, layers, code) => {
    await runtime.gc();
    const before = await filesOf(home.path);
    const boxes = (await runtime.list()).length;
    await pushLayers('bad/layers:1', layers);
    expect(await failureOf(runtime.images.pull(named('bad/layers:1')))).toMatchObject({ code });
    const create = runtime.create({ image: named('bad/layers:1') });
    expect(await failureOf(create)).toMatchObject({ code });
    const layout = await writeLayout(await mkdtemp(join(directory, 'bad-')), [{ layers }]);
    const imported = runtime.images.import(layout, { reference: 'bad' });
    expect(await failureOf(imported)).toMatchObject({ code });
    expect(await runtime.images.get('bad')).toBeNull();
    expect(await filesOf(home.path)).toEqual(before);
    expect(await runtime.list()).toHaveLength(boxes);
  });

  it('is refused when a blob of its layout is damaged, and nothing is left', async () => {
    await runtime.gc();
    const before = await filesOf(home.path);
    const layout = await writeTinyImage(await temporaryDirectory());
    const blobs = join(layout, 'blobs/sha256');
    for (const name of await readdir(blobs)) await writeFile(join(blobs, name), 'damaged');
    const failure = await failureOf(runtime.images.import(layout, { reference: 'damaged' }));
    expect(failure).toMatchObject({ code: 'image_invalid', message: expect.stringContaining('sha256:') });
    expect(await filesOf(home.path)).toEqual(before);
  });

  it('is refused by a box whose disk is too small for it', async () => {
    await runtime.gc();
    const { layers } = await filesOf(home.path);
    const files = Array.from({ length: 70_000 }, (_, index) => ({ name: `f${index}` }));
    const layout = await writeLayout(await mkdtemp(join(directory, 'large-')), [{ layers: [files] }]);
    await runtime.images.import(layout, { reference: 'large' });
    const failure = await failureOf(runtime.create({ image: 'large', diskSizeGb: 1 }));
    expect(failure.code).toBe('image_refused');
    expect(failure.message).toMatch(/more files than the 65536 inodes of its disk/);
    await runtime.images.remove('large');
    await runtime.gc();
    expect((await filesOf(home.path)).layers).toEqual(layers);
  });

  it('is not found when no registry has it, nor by an id nobody has', async () => {
    const reference = named('team/nothing:1');
    const failure = await failureOf(runtime.create({ image: reference }));
    expect(failure).toMatchObject({ code: 'image_not_found' });
    expect(failure.message).toContain(`no image "${reference}" here, and it cannot be pulled: `);
    const requests = proxy.requests.length;
    const unknownId = failureOf(runtime.create({ image: `sha256:${'0'.repeat(64)}` }));
    expect(await unknownId).toMatchObject({ code: 'image_not_found' });
    expect(proxy.requests).toHaveLength(requests);
    const badName = failureOf(runtime.create({ image: 'Not A Name' }));
    expect(await badName).toMatchObject({ code: 'invalid_argument' });
  });

  it('runs without a shell, and says that there is none', async () => {
    const layout = await writeTinyImage(await temporaryDirectory(), { empty: true });
    await runtime.images.import(layout, { reference: 'no-shell' });
    const box = await runtime.create({ image: 'no-shell' });
    expect(await failureOf(box.exec(['sh', '-c', 'true']))).toMatchObject({ code: 'command_not_found' });
    await box.remove({ force: true });
  });
});
