import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseReference } from '../../src/formats/oci/reference.js';
import { type CredentialSource, dockerCredentials } from '../../src/registry/credentials.js';
import { Puller, type PullerOptions } from '../../src/registry/puller.js';
import { TestHome } from './support/home.js';
import { writeLayout } from './support/layout.js';
import { TestProxy } from './support/proxy.js';
import { TestRegistry } from './support/registry.js';

const user = { name: 'ann', password: 'se:cret' };
const nobody: CredentialSource = () => Promise.resolve(undefined);
const ann: CredentialSource = () => Promise.resolve({ username: user.name, password: user.password });

let home: TestHome;
let secure: TestRegistry;
let open: TestRegistry;

beforeAll(async () => {
  home = await TestHome.create();
  secure = await TestRegistry.start({ directory: join(home.directory, 'secure'), tls: true, user });
  open = await TestRegistry.start({ directory: join(home.directory, 'open') });
  const layout = await writeLayout(join(home.directory, 'layout'), [
    { layers: [[{ name: 'file', content: 'x' }]] },
  ]);
  await secure.push(`oci:${layout}`, 'app:1');
  await open.push(`oci:${layout}`, 'app:1');
});

afterAll(async () => {
  await secure[Symbol.asyncDispose]();
  await open[Symbol.asyncDispose]();
  await home[Symbol.asyncDispose]();
});

async function pull(name: string, more: Partial<PullerOptions>) {
  await using own = await TestHome.create();
  const puller = new Puller({ store: own.store, credentials: nobody, ...more });
  try {
    return await puller.pull(parseReference(`${name}/app:1`));
  } finally {
    await puller.close();
  }
}

describe('a registry with TLS and a password', () => {
  const trusting = (): Partial<PullerOptions> => ({
    registries: { [secure.name]: { caFile: secure.caFile } },
  });

  test('its own authority and the right password open it', async () => {
    expect((await pull(secure.name, { ...trusting(), credentials: ann })).layers.length).toBe(1);
  });

  test('a certificate nobody vouches for is refused, unless asked otherwise', async () => {
    await expect(pull(secure.name, { credentials: ann })).rejects.toMatchObject({
      code: 'network_unavailable',
      message: expect.stringMatching(/no secure connection.*self-signed/),
    });
    const image = await pull(secure.name, {
      credentials: ann,
      registries: { [secure.name]: { skipVerify: true } },
    });
    expect(image.layers.length).toBe(1);
  });

  test('who has no password does not get what another one pulls at the same time', async () => {
    await using own = await TestHome.create();
    const puller = new Puller({ store: own.store, credentials: nobody });
    const reference = parseReference(`${secure.name}/app:1`);
    const { caFile } = secure;
    const credentials = { username: user.name, password: user.password };
    const [mine, theirs] = await Promise.allSettled([
      puller.pull(reference, { registry: { caFile, credentials } }),
      puller.pull(reference, { registry: { caFile } }),
    ]);
    expect(mine.status).toBe('fulfilled');
    expect(theirs).toMatchObject({ status: 'rejected', reason: { code: 'unauthenticated' } });
    await puller.close();
  });

  test('no password and a wrong password', async () => {
    const wrong: CredentialSource = () => Promise.resolve({ username: user.name, password: 'wrong' });
    for (const credentials of [nobody, wrong]) {
      await expect(pull(secure.name, { ...trusting(), credentials })).rejects.toMatchObject({
        code: 'unauthenticated',
      });
    }
  });

  test('a file of authorities that is missing', async () => {
    const registries = { [secure.name]: { caFile: join(home.directory, 'none.pem') } };
    await expect(pull(secure.name, { registries })).rejects.toMatchObject({ code: 'config_error' });
  });
});

describe('credentials of docker', () => {
  async function directory(own: TestHome, config: unknown): Promise<CredentialSource> {
    await writeFile(
      join(own.directory, 'config.json'),
      typeof config === 'string' ? config : JSON.stringify(config),
    );
    return dockerCredentials(own.directory);
  }

  test('auths, with a password that holds a colon', async () => {
    await using own = await TestHome.create();
    const auth = Buffer.from(`${user.name}:${user.password}`).toString('base64');
    const source = await directory(own, {
      auths: { [secure.name]: { auth }, 'https://index.docker.io/v1/': { username: 'hub', password: 'p' } },
    });
    expect(
      (
        await pull(secure.name, {
          credentials: source,
          registries: { [secure.name]: { caFile: secure.caFile } },
        })
      ).layers.length,
    ).toBe(1);
    expect(await source('docker.io')).toMatchObject({ username: 'hub', password: 'p' });
    expect(await source('other.example')).toBeUndefined();
  });

  test('a helper for the registry comes before the common store and auths', async () => {
    await using own = await TestHome.create();
    const bin = join(own.directory, 'bin');
    await mkdir(bin);
    const helper = join(bin, 'docker-credential-test');
    await writeFile(
      helper,
      '#!/bin/sh\nread host\n[ "$1 $host" = "get known:1" ] || { echo "credentials not found in native keychain"; exit 1; }\necho \'{"Username":"<token>","Secret":"refresh"}\'\n',
    );
    await chmod(helper, 0o755);
    const path = process.env.PATH;
    process.env.PATH = `${bin}:${path}`;
    try {
      const source = await directory(own, {
        credHelpers: { 'known:1': 'test', 'unknown:1': 'test' },
        auths: { 'unknown:1': { username: 'u', password: 'p' } },
      });
      expect(await source('known:1')).toMatchObject({ identityToken: 'refresh' });
      expect(await source('unknown:1')).toMatchObject({ username: 'u' });
    } finally {
      process.env.PATH = path;
    }
  });

  test.each<[string, unknown]>([
    ['a file that is no JSON', '{"auths": '],
    ['a helper that is a path', { credsStore: '../../bin/sh' }],
    ['a helper that is not there', { credsStore: 'not-there-at-all' }],
    ['an auth that is no base64 of two parts', { auths: { 'r:1': { auth: 'eA==' } } }],
  ])('%s is told without its content', async (_, config) => {
    await using own = await TestHome.create();
    const source = await directory(own, config);
    await expect(source('r:1')).rejects.toMatchObject({ code: 'config_error' });
  });

  test('no file is no credentials', async () => {
    await using own = await TestHome.create();
    expect(await dockerCredentials(own.directory)('r:1')).toBeUndefined();
  });
});

describe('tokens', () => {
  /** Lets a proxy ask for a token, which it gives at /token, and lets pass who shows it. */
  async function tokenProxy(): Promise<TestProxy> {
    const proxy = await TestProxy.start(open.port);
    proxy.plan = (path, _, { headers }) => {
      if (path.startsWith('/token')) return { answer: { status: 200, body: '{"token":"t0ken"}' } };
      if (path === '/v2/' || headers.authorization === 'Bearer t0ken') return undefined;
      const challenge = `Bearer realm="http://${proxy.name}/token",service="s v",scope="repository:app:pull"`;
      return { answer: { status: 401, headers: { 'www-authenticate': challenge } } };
    };
    return proxy;
  }

  test('are fetched once, with the credentials, and shown to the registry', async () => {
    await using proxy = await tokenProxy();
    expect((await pull(proxy.name, { credentials: ann })).layers.length).toBe(1);
    const asked = proxy.requests.filter((each) => each.path.startsWith('/token'));
    expect(asked).toEqual([
      {
        path: '/token?service=s+v&scope=repository%3Aapp%3Apull&account=ann',
        range: undefined,
        authorization: `Basic ${Buffer.from(`${user.name}:${user.password}`).toString('base64')}`,
      },
    ]);
  });

  test('go to no other host, where a blob may lie', async () => {
    await using proxy = await tokenProxy();
    await using elsewhere = await TestProxy.start(open.port);
    const own = proxy.plan;
    proxy.plan = (path, before, incoming) => {
      if (!path.includes('/blobs/')) return own(path, before, incoming);
      return { answer: { status: 307, headers: { location: `http://${elsewhere.name}${path}` } } };
    };
    expect((await pull(proxy.name, {})).layers.length).toBe(1);
    expect(elsewhere.requests.length).toBe(2);
    expect(elsewhere.requests.map((each) => each.authorization)).toEqual([undefined, undefined]);
  });

  test('credentials are not for a host the registry leads to, whatever it asks', async () => {
    await using proxy = await TestProxy.start(open.port);
    await using elsewhere = await TestProxy.start(open.port);
    proxy.plan = (path) =>
      path === '/v2/'
        ? undefined
        : { answer: { status: 307, headers: { location: `http://${elsewhere.name}${path}` } } };
    for (const challenge of ['Basic realm="x"', `Bearer realm="http://${elsewhere.name}/token"`]) {
      elsewhere.plan = () => ({ answer: { status: 401, headers: { 'www-authenticate': challenge } } });
      await expect(pull(proxy.name, { credentials: ann })).rejects.toMatchObject({ code: 'unauthenticated' });
    }
    const seen = [...proxy.requests, ...elsewhere.requests];
    expect(elsewhere.requests.length).toBe(2);
    expect(seen.map(({ authorization }) => authorization).filter((it) => it !== undefined)).toEqual([]);
  });

  test('an identity token is exchanged', async () => {
    await using proxy = await tokenProxy();
    const source: CredentialSource = () =>
      Promise.resolve({ username: '<token>', password: '', identityToken: 'refresh' });
    expect((await pull(proxy.name, { credentials: source })).layers.length).toBe(1);
    expect(proxy.requests.filter((each) => each.path.startsWith('/token')).map((each) => each.path)).toEqual([
      '/token',
    ]);
  });
});
