import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { ApiKeys } from '../../src/home/keys.js';
import { type ServedHome, serveHttp } from '../../src/home/serve-http.js';
import { connectRuntime } from '../../src/remote/index.js';
import { TestProxy } from '../image/support/proxy.js';
import { freePort, TestRegistry } from '../image/support/registry.js';
import { newHome, type TestHome } from '../support/home.js';
import { writeTinyImage } from '../support/tiny-image.js';

let directory: string;
let registry: TestRegistry;
let home: TestHome;
let served: ServedHome;
/** With a key of a tenant. */
let tenant: Runtime;
/** Registries on this host: one the operator allows, and one nobody named. */
let allowed: TestProxy;
let secret: TestProxy;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-pulls-'));
  registry = await TestRegistry.start({ directory: join(directory, 'registry') });
  await registry.push(`oci:${await writeTinyImage(join(directory, 'tiny'), {})}`, 'app:1');
  allowed = await TestProxy.start(registry.port);
  secret = await TestProxy.start(registry.port);
  home = await newHome();
  await using keys = await ApiKeys.open(home.path);
  const { key } = await keys.create({ tenant: 'acme' });
  const listen = { port: await freePort() };
  served = await serveHttp({ home: home.path, poolSize: 0, listen, allowedRegistries: [allowed.name] });
  tenant = connectRuntime({ url: served.address.url, apiKey: key });
});

afterAll(async () => {
  await tenant.close();
  await served.close();
  await home[Symbol.asyncDispose]();
  await allowed[Symbol.asyncDispose]();
  await secret[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

beforeEach(() => {
  for (const proxy of [allowed, secret]) {
    proxy.plan = () => undefined;
    proxy.requests.length = 0;
  }
});

const refused = expect.objectContaining({
  code: 'permission_denied',
  hint: expect.stringContaining('--allow-registry'),
});

describe('a pull of a caller over HTTP', () => {
  it('reaches no address of this host, however it is written', async () => {
    const port = secret.name.split(':')[1];
    const own = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
    const names = [
      ...['127.0.0.1', 'localhost', 'LOCALHOST', '127.1', '2130706433', '0x7f000001', '0.0.0.0', '127.9.9.9'],
      ...['[::1]', '[::]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[64:ff9b::7f00:1]', 'a.localhost'],
      ...own
        .filter(({ scopeid }) => !scopeid)
        .map(({ address, family }) => (family === 'IPv6' ? `[${address}]` : address)),
      hostname(),
    ];
    for (const name of names) {
      for (const plainHttp of [undefined, true, false]) {
        const pull = tenant.images.pull(`${name}:${port}/app:1`, {
          registry: { plainHttp, skipVerify: true },
        });
        const error = await pull.then(String, (thrown: { code: string }) => thrown.code);
        // What the grammar of references does not have is refused before.
        expect([name, plainHttp, error]).toEqual([
          name,
          plainHttp,
          expect.stringMatching(/^(?:permission_denied|invalid_argument)$/),
        ]);
      }
    }
    await expect(tenant.images.pull(`${secret.name}/app:1`)).rejects.toEqual(refused);
    await expect(tenant.images.pull('169.254.169.254/latest/meta-data:1')).rejects.toEqual(refused);
    await expect(tenant.create({ image: `${secret.name}/app:1` })).rejects.toEqual(refused);
    const mirrors = { mirrors: [`http://${secret.name}`] };
    await expect(tenant.images.pull(`${allowed.name}/none:1`, { registry: mirrors })).rejects.toMatchObject({
      code: 'image_not_found',
    });
    expect(secret.requests).toEqual([]);
  });

  it('works where the operator allows it, also through his settings', async () => {
    expect((await tenant.images.pull(`${allowed.name}/app:1`)).layerCount).toBe(1);
    const file = join(home.path, 'registries.json');
    await writeFile(file, JSON.stringify({ [secret.name]: {} }));
    expect((await tenant.images.pull(`${secret.name}/app:1`)).layerCount).toBe(1);
    await rm(file);
    // A connection that was allowed then is not used now.
    secret.requests.length = 0;
    await expect(tenant.images.pull(`${secret.name}/app:1`)).rejects.toEqual(refused);
    expect(secret.requests).toEqual([]);
  });

  it('follows an allowed registry to no other place: neither redirects nor token servers', async () => {
    allowed.plan = (path) =>
      path === '/v2/'
        ? undefined
        : { answer: { status: 307, headers: { location: `http://${secret.name}${path}` } } };
    await expect(tenant.images.pull(`${allowed.name}/app:1`)).rejects.toEqual(refused);
    for (const realm of [`http://${secret.name}/token`, `https://${secret.name}/token`]) {
      const headers = { 'www-authenticate': `Bearer realm="${realm}"` };
      allowed.plan = (path) => (path === '/v2/' ? undefined : { answer: { status: 401, headers } });
      const registry = { username: 'ann', password: 'pass' };
      await expect(tenant.images.pull(`${allowed.name}/app:1`, { registry })).rejects.toEqual(refused);
    }
    expect(secret.requests).toEqual([]);
  });

  it('is not that of a user of this host, who pulls from everywhere', async () => {
    await using owner = connectRuntime({ socketPath: join(home.path, 'engine.sock') });
    expect((await owner.images.pull(`${secret.name}/app:1`)).layerCount).toBe(1);
    secret.requests.length = 0;
    await expect(tenant.images.pull(`${secret.name}/app:1`)).rejects.toEqual(refused);
    expect(secret.requests).toEqual([]);
  });
});

it('a server refuses to start with a registry that is no name', async () => {
  const options = { home: home.path, allowedRegistries: ['http://reg.lan'] };
  await expect(serveHttp(options)).rejects.toMatchObject({ code: 'invalid_argument' });
});
