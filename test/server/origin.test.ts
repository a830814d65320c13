import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ServerOptions } from '../../src/server/index.js';
import { exchange, requestText, statusOf, upgradeHeaders } from './raw.js';
import { serverWithoutRuntime, temporaryDirectory, unboundServer } from './support.js';

type Headers = readonly (readonly [string, string])[];
const close: Headers = [['connection', 'close']];
const principal = {
  id: 'k',
  tenant: '',
  scopes: ['box:read' as const, 'box:exec' as const],
  expiresAt: null,
};
const authenticator = { authenticate: async (token: string) => (token === 'good' ? principal : null) };

/** A server, and what it says to a GET of the boxes: 503 is what the runtime says, so that was reached. */
async function served(options: Partial<ServerOptions> = {}) {
  const { url } = await serverWithoutRuntime(options);
  const { port } = new URL(url);
  const say = async (target: string, headers: Headers, more: { method?: string; body?: string } = {}) =>
    await exchange(url, requestText(target, [...headers, ...close], more));
  const status = async (headers: Headers, target = '/v1/boxes') => statusOf(await say(target, headers));
  return { url, port, say, status };
}

describe('a server without keys', () => {
  it('answers to names of the loopback interface with its own port only', async () => {
    const { port, status } = await served();
    const hosts = {
      [`127.0.0.1:${port}`]: 503,
      [`127.8.7.6:${port}`]: 503,
      [`localhost:${port}`]: 503,
      [`LOCALHOST:${port}`]: 503,
      [`[::1]:${port}`]: 503,
      localhost: 403,
      'localhost:1': 403,
      'evil.example': 403,
      [`evil.example:${port}`]: 403,
      [`localhost.evil.example:${port}`]: 403,
      [`127.0.0.1.evil.example:${port}`]: 403,
      [`localhost@evil.example:${port}`]: 403,
      [`evil.example:${port}@localhost:${port}`]: 403,
      [`192.0.2.1:${port}`]: 403,
      [`0.0.0.0:${port}`]: 403,
      '': 403,
    };
    const got: Record<string, number> = {};
    for (const host of Object.keys(hosts)) got[host] = await status([['host', host]]);
    expect(got).toEqual(hosts);
    expect(statusOf(await exchange(`http://127.0.0.1:${port}`, 'GET /v1/boxes HTTP/1.0\r\n\r\n'))).toBe(403);
    for (const target of ['/healthz', '/v1/config', '/nothing', '/'])
      expect([target, await status([['host', `evil.example:${port}`]], target)]).toEqual([target, 403]);
  });

  it('answers to names it was allowed', async () => {
    const { port, status } = await served({ allowedHosts: ['box.example', 'other.example:99'] });
    expect(await status([['host', 'box.example']])).toBe(503);
    expect(await status([['host', `BOX.example:${port}`]])).toBe(503);
    expect(await status([['host', 'other.example:99']])).toBe(503);
    expect(await status([['host', `other.example:${port}`]])).toBe(403);
    expect(await status([['host', `sub.box.example:${port}`]])).toBe(403);
    for (const allowedHosts of [['a b'], ['http://x'], ['x/y'], ['']]) {
      await expect(serverWithoutRuntime({ allowedHosts })).rejects.toMatchObject({
        code: 'invalid_argument',
      });
    }
  });

  it('says in its error which option or command helps', async () => {
    const { say } = await served();
    const answer = await say('/v1/boxes', [['host', 'evil.example']]);
    expect(answer).toContain('"code":"permission_denied"');
    expect(answer).toContain('--allow-host');
    expect(answer).toContain('cryobox keys create');
  });

  it('refuses a request line that names another host', async () => {
    const { port, status } = await served();
    const host = [['host', `localhost:${port}`]] as const;
    expect(await status(host, `http://localhost:${port}/v1/boxes`)).toBe(503);
    expect(await status(host, 'http://evil.example/v1/boxes')).toBe(400);
    expect(await status([['host', 'evil.example']], 'http://evil.example/v1/boxes')).toBe(403);
  });
});

describe.each([
  ['without keys', {}],
  ['with keys', { authenticator }],
])('any server: %s', (_name, options: Partial<ServerOptions>) => {
  const key: Headers = options.authenticator ? [['authorization', 'Bearer good']] : [];

  it('refuses what a page of another origin asks for, also what needs no preflight', async () => {
    const { port, say } = await served(options);
    const host = ['host', `localhost:${port}`] as const;
    const foreign: Headers[] = [
      [['origin', 'http://evil.example']],
      [['origin', `http://localhost:${Number(port) + 1}`]],
      [['origin', `http://localhost.evil.example:${port}`]],
      [['origin', 'null']],
      [['origin', 'file://']],
      [['origin', `chrome-extension://localhost:${port}`]],
      [['origin', '']],
      [['sec-fetch-site', 'cross-site']],
      [['sec-fetch-site', 'same-site']],
      [['sec-fetch-site', 'what comes next']],
      [
        ['origin', 'http://evil.example'],
        ['sec-fetch-site', 'same-origin'],
      ],
    ];
    const requests = [
      ['/v1/boxes', {}],
      ['/v1/boxes/b/pause', { method: 'POST' }],
      ['/v1/boxes/b/network/tunnel?port=80', { method: 'POST' }],
      ['/v1/boxes/import', { method: 'POST', body: 'x' }],
      ['/v1/acme/images/prune', { method: 'POST' }],
      ['/healthz', {}],
      ['/v1/nothing', {}],
      ['/v1/boxes', { method: 'OPTIONS' }],
    ] as const;
    for (const headers of foreign) {
      for (const [target, more] of requests) {
        const answer = await say(target, [host, ...headers, ['content-type', 'text/plain'], ...key], more);
        expect([headers, target, statusOf(answer)]).toEqual([headers, target, 403]);
        expect(answer.toLowerCase()).not.toContain('access-control-');
      }
    }
  });

  it('refuses upgrades and tunnels of such pages', async () => {
    const { url, port } = await served(options);
    for (const target of ['/v1/boxes/b/exec', '/v1/boxes/b/ports/80', '/v1/boxes/b/executions/e/attach']) {
      for (const headers of [
        [['origin', 'https://evil.example']],
        [['sec-fetch-site', 'cross-site']],
      ] as const) {
        const text = requestText(target, [
          ['host', `localhost:${port}`],
          ...headers,
          ...upgradeHeaders,
          ...key,
        ]);
        expect([target, statusOf(await exchange(url, text))]).toEqual([target, 403]);
      }
    }
    const tunnel = requestText(
      `80-${'0'.repeat(48)}@localhost:${port}`,
      [
        ['host', `localhost:${port}`],
        ['origin', 'https://evil.example'],
      ],
      { method: 'CONNECT' },
    );
    expect(statusOf(await exchange(url, tunnel))).toBe(403);
  });

  it('serves its own pages, clients that are no browser, and an address that was typed', async () => {
    const { port, status } = await served(options);
    const host = ['host', `localhost:${port}`] as const;
    const own: Headers[] = [
      [],
      [['origin', `http://localhost:${port}`]],
      [['origin', `https://localhost:${port}`]],
      [['sec-fetch-site', 'same-origin']],
      [['sec-fetch-site', 'none']],
    ];
    for (const headers of own)
      expect([headers, await status([host, ...headers, ...key])]).toEqual([headers, 503]);
  });

  it('serves pages of an origin it was allowed, and lets their browser show the answers', async () => {
    const { port, say } = await served({ ...options, allowedOrigins: ['https://dash.example'] });
    const page: Headers = [
      ['host', `localhost:${port}`],
      ['origin', 'https://dash.example'],
    ];
    const answer = await say('/v1/boxes', [...page, ...key]);
    expect(statusOf(answer)).toBe(503);
    expect(answer).toContain('access-control-allow-origin: https://dash.example\r\n');
    const wanted = ['access-control-request-headers', 'authorization,content-type'] as const;
    const preflight = await say('/v1/boxes', [...page, wanted, ['access-control-request-method', 'POST']], {
      method: 'OPTIONS',
    });
    expect(statusOf(preflight)).toBe(204);
    expect(preflight).toContain('access-control-allow-headers: authorization,content-type\r\n');
    expect(
      statusOf(
        await say('/v1/boxes', [
          ['host', `localhost:${port}`],
          ['origin', 'https://dash.example.evil'],
          ...key,
        ]),
      ),
    ).toBe(403);
    for (const allowedOrigins of [['*'], ['dash.example'], ['https://dash.example/x'], ['null']]) {
      await expect(serverWithoutRuntime({ allowedOrigins })).rejects.toMatchObject({
        code: 'invalid_argument',
      });
    }
  });

  it('refuses two Host headers', async () => {
    const { port, say, url } = await served(options);
    const twice: Headers = [
      ['host', `localhost:${port}`],
      ['Host', `localhost:${port}`],
    ];
    expect(statusOf(await say('/v1/boxes', [...twice, ...key]))).toBe(400);
    expect(statusOf(await say('/healthz', twice))).toBe(400);
    const upgrade = requestText('/v1/boxes/b/exec', [...twice, ...upgradeHeaders, ...key]);
    expect(statusOf(await exchange(url, upgrade))).toBe(400);
  });

  it('upgrades nothing but its WebSocket routes', async () => {
    const { port, url } = await served(options);
    for (const target of [
      '/healthz',
      '/v1/config',
      '/v1/openapi.json',
      '/v1/boxes',
      '/v1/events',
      '/metrics',
      '/x',
    ]) {
      const text = requestText(target, [['host', `localhost:${port}`], ...upgradeHeaders, ...key]);
      const answer = await exchange(url, text);
      expect([target, statusOf(answer)]).toEqual([target, target === '/x' ? 404 : 400]);
    }
  });
});

it('takes any name with a key, since a page that has none learns nothing', async () => {
  const { status } = await served({ authenticator });
  expect(
    await status([
      ['host', 'box.example'],
      ['authorization', 'Bearer good'],
    ]),
  ).toBe(503);
  expect(await status([['host', 'box.example']])).toBe(401);
});

it('takes any name on a unix socket, and no page whatever it says of itself', async () => {
  const socketPath = join(await temporaryDirectory(), 'engine.sock');
  const server = unboundServer();
  await server.listen({ socketPath });
  const status = (headers: Record<string, string>): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const asking = httpRequest({ socketPath, path: '/v1/boxes', headers }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      });
      asking.on('error', reject);
      asking.end();
    });
  expect(await status({ host: 'whatever' })).toBe(503);
  expect(await status({ host: 'evil.example', origin: 'http://evil.example' })).toBe(403);
  expect(await status({ host: 'x', origin: 'http://localhost:8100' })).toBe(403);
  expect(await status({ host: 'x', 'sec-fetch-site': 'cross-site' })).toBe(403);
});
