import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../src/errors.js';
import { buildBaseDisk } from '../../src/formats/oci/base-disk.js';
import { parseReference } from '../../src/formats/oci/reference.js';
import { pullToDisk } from '../../src/registry/pull-to-disk.js';
import { Puller, type PullerOptions } from '../../src/registry/puller.js';
import { TestHome, testDiskBytes } from './support/home.js';
import { writeLayout } from './support/layout.js';
import { type Mischief, type Plan, TestProxy } from './support/proxy.js';
import { freePort, TestRegistry } from './support/registry.js';

let home: TestHome;
let registry: TestRegistry;
let proxy: TestProxy;

beforeAll(async () => {
  home = await TestHome.create();
  registry = await TestRegistry.start({ directory: join(home.directory, 'registry') });
  const layout = await writeLayout(join(home.directory, 'layout'), [
    { layers: [[{ name: 'file', content: 'x'.repeat(100_000) }]], name: 'good' },
    { layers: [[{ name: '../escape' }], [{ name: 'file' }]], name: 'hostile' },
  ]);
  await registry.push(`oci:${layout}:good`, 'app:1');
  await registry.push(`oci:${layout}:hostile`, 'hostile:1');
  proxy = await TestProxy.start(registry.port);
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

const timeouts = { connectMs: 2000, headersMs: 2000, stallMs: 500 };

async function pull(own: TestHome, name: string, more: Partial<PullerOptions> = {}, path = 'app:1') {
  const puller = new Puller({
    store: own.store,
    credentials: () => Promise.resolve(undefined),
    timeouts,
    ...more,
  });
  try {
    return await puller.pull(parseReference(`${name}/${path}`));
  } finally {
    await puller.close();
  }
}

/** Complete blobs and parts in a store. */
async function leftovers(own: TestHome): Promise<string[]> {
  return (await own.names()).filter((name) => /^store\/(?:blobs\/sha256|partial)\/./.test(name));
}

const onManifest =
  (mischief: Mischief): Plan =>
  (path) =>
    path.includes('/manifests/') ? mischief : undefined;
const onBlobs =
  (mischief: Mischief): Plan =>
  (path) =>
    path.includes('/blobs/') ? mischief : undefined;
const answer = (status: number, body = '', headers: Record<string, string> = {}): Mischief => ({
  answer: { status, body, headers },
});
const denied = JSON.stringify({ errors: [{ code: 'DENIED', message: 'not for you' }] });

describe('what a registry refuses or sends wrong is its own error, and nothing stays', () => {
  test.each<[string, Plan, ErrorCode, RegExp]>([
    ['401 without a way to log in', onManifest(answer(401)), 'unauthenticated', /answered 401/],
    [
      '401 with basic authentication',
      onManifest(answer(401, '', { 'www-authenticate': 'Basic realm="x"' })),
      'unauthenticated',
      /answered 401/,
    ],
    [
      '403 with a message',
      onManifest(answer(403, denied)),
      'permission_denied',
      /answered 403 .*"not for you"/,
    ],
    ['404', onManifest(answer(404)), 'image_not_found', /answered 404/],
    [
      '429 that asks for an hour',
      onManifest(answer(429, '', { 'retry-after': '3600' })),
      'resource_exhausted',
      /answered 429/,
    ],
    ['500 again and again', onManifest(answer(500)), 'upstream_unavailable', /answered 500/],
    ['an unknown status', onManifest(answer(418)), 'image_pull_failed', /answered 418/],
    ['a manifest that is no JSON', onManifest(answer(200, '<html>')), 'image_invalid', /not JSON/],
    [
      'a manifest that is none',
      onManifest(answer(200, '{"schemaVersion":2}')),
      'image_invalid',
      /manifest is wrong at config/,
    ],
    [
      'a manifest of 5 MiB',
      onManifest(answer(200, ' '.repeat(5 * 2 ** 20))),
      'image_refused',
      /more than 4194304 bytes/,
    ],
    [
      'a manifest with another digest than announced',
      onManifest(answer(200, '{}', { 'docker-content-digest': `sha256:${'a'.repeat(64)}` })),
      'image_invalid',
      /in place of sha256:aaa/,
    ],
    ['a blob that is not there', onBlobs(answer(404)), 'image_not_found', /answered 404 to the blob sha256/],
    ['a blob with other content', onBlobs({ corrupt: true }), 'image_invalid', /has the digest sha256/],
    ['a blob announced longer', onBlobs({ length: 9_999_999 }), 'image_invalid', /announces 9999999 bytes/],
    [
      'a redirect without end',
      (path) => answer(307, '', { location: path }),
      'image_pull_failed',
      /redirects .* more than 5 times/,
    ],
    [
      'a redirect into a file',
      onBlobs(answer(302, '', { location: 'file:///etc/passwd' })),
      'image_pull_failed',
      /not allowed/,
    ],
    [
      'a token server that gives none',
      onManifest(answer(401, '', { 'www-authenticate': 'Bearer realm="file:///x"' })),
      'image_pull_failed',
      /token server at an address/,
    ],
  ])('%s', async (_, plan, code, message) => {
    await using own = await TestHome.create();
    // The connection is found out by asking for /v2/, which tests of manifests and blobs leave alone.
    proxy.plan = (path, before, incoming) => (path === '/v2/' ? undefined : plan(path, before, incoming));
    await expect(pull(own, proxy.name)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
    expect(
      (await leftovers(own)).filter((name) => !name.includes('blobs/sha256') || code === 'image_invalid'),
    ).toEqual([]);
  });

  test('a host that does not exist, and a port nobody listens at', async () => {
    await using own = await TestHome.create();
    await expect(pull(own, 'no-such-host.invalid')).rejects.toMatchObject({
      code: 'network_unavailable',
      message: expect.stringMatching(/cannot be resolved|failed/),
    });
    await expect(pull(own, `127.0.0.1:${await freePort()}`)).rejects.toMatchObject({
      code: 'network_unavailable',
      message: expect.stringMatching(/ECONNREFUSED/),
    });
  });

  test('429 with a short Retry-After, and 503, are waited out', async () => {
    await using own = await TestHome.create();
    await using fresh = await TestProxy.start(registry.port);
    fresh.plan = (path, before) => {
      if (path.includes('/manifests/') && before === 0) return answer(429, '', { 'retry-after': '1' });
      return path.includes('/blobs/') && before === 0 ? answer(503) : undefined;
    };
    const startedAt = performance.now();
    expect((await pull(own, fresh.name)).layers.length).toBe(1);
    expect(performance.now() - startedAt).toBeGreaterThan(990);
  });

  test('a platform that does not exist is told with those that do', async () => {
    await using own = await TestHome.create();
    const puller = new Puller({ store: own.store, credentials: () => Promise.resolve(undefined) });
    const pulling = puller.pull(parseReference(`${registry.name}/app:1`), {
      platform: { os: 'linux', architecture: 'riscv64' },
    });
    await expect(pulling).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(/not made for linux\/riscv64; it exists for linux\//),
    });
    await puller.close();
  });

  test('a hostile layer stops the pull and leaves no disk', async () => {
    await using own = await TestHome.create();
    const puller = new Puller({ store: own.store, credentials: () => Promise.resolve(undefined) });
    const pulling = pullToDisk({
      puller,
      store: own.store,
      reference: parseReference(`${registry.name}/hostile:1`),
      makeDisk: ({ manifestDigest }, layers, signal) =>
        buildBaseDisk({ path: own.disk, sizeBytes: testDiskBytes, identity: manifestDigest, layers, signal }),
    });
    await expect(pulling).rejects.toMatchObject({
      code: 'image_refused',
      message: expect.stringMatching(/"..\/escape" leads out/),
    });
    expect(await own.names()).not.toContain('disk.ext4');
    await puller.close();
  });
});
