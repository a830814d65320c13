import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Principal, ServerOptions } from '../../src/server/index.js';
import { exchange, requestText, statusOf, upgradeHeaders } from './raw.js';
import { serverWithoutRuntime } from './support.js';

type Headers = Record<string, string>;

/** A server with the keys `good` of nobody's tenant and `acme`, which can be revoked, and a browser's view of it. */
async function served(options: Partial<ServerOptions> = {}) {
  const of = (tenant: string): Principal => ({
    id: tenant,
    tenant,
    scopes: ['box:read', 'box:exec'],
    expiresAt: null,
  });
  const keys = new Map([
    ['good', of('')],
    ['acme', of('acme')],
  ]);
  const authenticator = { authenticate: async (token: string) => keys.get(token) ?? null };
  const { url, server } = await serverWithoutRuntime({ authenticator, ...options });
  const { host } = new URL(url);
  const say = (target: string, headers: Headers = {}, method = 'GET', body?: string) =>
    exchange(
      url,
      requestText(target, Object.entries({ host, connection: 'close', ...headers }), {
        method,
        ...(body === undefined ? {} : { body }),
      }),
    );
  const status = async (...asked: Parameters<typeof say>) => statusOf(await say(...asked));
  const signIn = async (how: object, headers: Headers = {}) => {
    const answer = await say(
      '/ui/session',
      { 'content-type': 'application/json', ...headers },
      'POST',
      JSON.stringify(how),
    );
    const cookie = /set-cookie: ([^;\r]+)/i.exec(answer)?.[1] ?? '';
    const csrf = /"csrf":"([^"]+)"/.exec(answer)?.[1] ?? '';
    return { answer, status: statusOf(answer), cookie, csrf, both: { cookie, 'x-cryobox-csrf': csrf } };
  };
  return { url, host, server, keys, say, status, signIn };
}

describe('a session of a browser', () => {
  it('is a cookie that scripts and other sites cannot use, and a token beside it', async () => {
    const { signIn, status } = await served();
    const { answer, cookie, csrf, both } = await signIn({ key: 'good' });
    expect(answer).toMatch(
      /set-cookie: cryobox_session_\d+=[\w-]+; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict\r/i,
    );
    expect(cookie).not.toContain('good');
    expect(Buffer.from(cookie, 'base64url').toString('latin1')).not.toContain('good');
    expect(await status('/v1/boxes', both)).toBe(503);
    expect(await status('/metrics', both)).toBe(503);
    // Taken from the browser, the cookie alone opens nothing, nor does the token.
    expect(await status('/v1/boxes', { cookie })).toBe(403);
    expect(await status('/v1/boxes', { cookie, 'x-cryobox-csrf': `${csrf.slice(0, -2)}xx` })).toBe(403);
    expect(await status('/v1/boxes', { 'x-cryobox-csrf': csrf })).toBe(401);
    for (const [target, method] of [
      ['/v1/boxes/b/executions/e/signal', 'POST'],
      ['/v1/boxes/b', 'GET'],
      ['/ui/session', 'DELETE'],
    ] as const)
      expect([target, await status(target, { cookie }, method)]).toEqual([target, 403]);
    // A key that is named counts alone.
    expect(await status('/v1/boxes', { ...both, authorization: 'Bearer bad' })).toBe(401);
    expect(await status('/v1/boxes', { cookie, authorization: 'Bearer good' })).toBe(503);
  });

  it('opens WebSockets with the token as a protocol, and none without', async () => {
    const { url, host, signIn } = await served();
    const { cookie, csrf } = await signIn({ key: 'good' });
    const upgrade = async (headers: Headers) => {
      const named = Object.entries({ host, cookie, ...headers });
      return statusOf(await exchange(url, requestText('/v1/boxes/b/exec', [...named, ...upgradeHeaders])));
    };
    expect(await upgrade({})).toBe(403);
    expect(await upgrade({ 'sec-websocket-protocol': 'cryobox.csrf.x' })).toBe(403);
    expect(await upgrade({ 'sec-websocket-protocol': `cryobox.csrf.${csrf}` })).toBe(503);
    const foreign = { 'sec-websocket-protocol': `cryobox.csrf.${csrf}`, origin: 'https://evil.example' };
    expect(await upgrade(foreign)).toBe(403);
  });

  it('is not begun, used or ended by pages of other origins', async () => {
    const { signIn, status } = await served();
    const { both } = await signIn({ key: 'good' });
    for (const foreign of [
      { origin: 'https://evil.example' },
      { 'sec-fetch-site': 'cross-site' },
    ] as Headers[]) {
      expect((await signIn({ key: 'good' }, foreign)).status).toBe(403);
      expect(await status('/v1/boxes', { ...both, ...foreign })).toBe(403);
      expect(await status('/ui/session', { ...both, ...foreign }, 'DELETE')).toBe(403);
      expect(await status('/ui/session', { ...both, ...foreign })).toBe(403);
      expect(await status('/ui/', foreign)).toBe(403);
    }
    expect(await status('/v1/boxes', both)).toBe(503);
  });

  it('ends with its key, and when somebody signs out', async () => {
    const { signIn, status, say, keys } = await served();
    const one = await signIn({ key: 'good' });
    const other = await signIn({ key: 'good' });
    expect(await say('/ui/session', one.both)).toContain('{"required":true,"signed_in":true}');
    const left = await say('/ui/session', one.both, 'DELETE');
    expect(left).toMatch(/set-cookie: cryobox_session_\d+=; Path=\/; Max-Age=0/i);
    expect(await status('/v1/boxes', one.both)).toBe(401);
    expect(await status('/v1/boxes', other.both)).toBe(503);
    keys.delete('good');
    expect(await status('/v1/boxes', other.both)).toBe(401);
    expect(await say('/ui/session', other.both)).toContain('{"required":true,"signed_in":false}');
  });

  it('sees its own tenant only', async () => {
    const { signIn, status } = await served();
    const { both } = await signIn({ key: 'acme' });
    expect(await status('/v1/acme/boxes', both)).toBe(503);
    expect(await status('/v1/other/boxes', both)).toBe(403);
    expect(await status('/v1/acme/gc', both, 'POST')).toBe(403);
  });

  it('outlives its server where the next has the same secret, and is nothing to others', async () => {
    const seed = randomBytes(32);
    const [first, second, foreign] = [
      await served({ browser: { seed } }),
      await served({ browser: { seed } }),
      await served(),
    ];
    const { cookie, csrf } = await first.signIn({ key: 'good' });
    const value = cookie.slice(cookie.indexOf('=') + 1);
    // Each server's cookie has a name of its own, after its port.
    const at = ({ host }: { host: string }, sealed = value): Headers => ({
      cookie: `a=b; cryobox_session_${host.split(':')[1]}=${sealed}; c`,
      'x-cryobox-csrf': csrf,
    });
    expect(await second.status('/v1/boxes', at(second))).toBe(503);
    expect(await foreign.status('/v1/boxes', at(foreign))).toBe(401);
    const bytes = Buffer.from(value, 'base64url');
    for (const place of [0, 12, 28, bytes.length - 1]) {
      const bent = Buffer.from(bytes);
      bent[place] = (bent[place] ?? 0) ^ 1;
      expect(await second.status('/v1/boxes', at(second, bent.toString('base64url')))).toBe(401);
    }
    for (const bad of ['', 'x', '%00', 'A'.repeat(5000)])
      expect(await second.status('/v1/boxes', at(second, bad))).toBe(401);
  });

  it('begins with a key that holds or with a link, once', async () => {
    const { signIn, status } = await served({ browser: { link: { token: 'tok', key: 'good' } } });
    expect((await signIn({ key: 'bad' })).status).toBe(401);
    expect((await signIn({ link: 'nok' })).status).toBe(401);
    const { both } = await signIn({ link: 'tok' });
    expect(await status('/v1/boxes', both)).toBe(503);
    expect((await signIn({ link: 'tok' })).status).toBe(401);
    for (const bad of [{}, { key: '' }, { key: 5 }, { key: 'good', link: 'tok' }, { key: 'x'.repeat(600) }])
      expect([bad, (await signIn(bad)).status]).toEqual([bad, 400]);
  });

  it('is not needed where no key is', async () => {
    const { say, signIn, status } = await served({ authenticator: null });
    expect(await say('/ui/session')).toContain('{"required":false,"signed_in":false}');
    expect((await signIn({ key: 'good' })).answer).toContain('{"required":false}');
    expect(await status('/v1/boxes', { cookie: 'cryobox_session_1=x' })).toBe(503);
  });
});

describe('the pages', () => {
  it('run scripts of this server only, in no frame, and are shown without a key', async () => {
    const { say, status } = await served();
    expect(await say('/ui')).toMatch(/^HTTP\/1.1 302 [\s\S]*location: \/ui\/\r/i);
    const page = await say('/ui/');
    expect(statusOf(page)).toBe(200);
    const policy = /content-security-policy: ([^\r]+)/i.exec(page)?.[1] ?? '';
    expect(policy).toContain("default-src 'none'; script-src 'self';");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(page.toLowerCase()).toContain('x-content-type-options: nosniff');
    expect(page).not.toMatch(/<script(?![^>]* src="\.\/assets\/)|https?:\/\/|\son\w+=/);
    const assets = [...page.matchAll(/"\.\/(assets\/[\w.-]+)"/g)].map(([, path]) => path);
    expect(assets.length).toBeGreaterThan(1);
    let compressed = 0;
    for (const path of assets) {
      const answer = await say(`/ui/${path}`, { 'accept-encoding': 'gzip' });
      expect([path, statusOf(answer)]).toEqual([path, 200]);
      expect(answer).toContain('immutable');
      compressed += answer.length;
    }
    expect(compressed).toBeLessThan(300 * 1024);
    for (const path of ['/ui/assets/none.js', '/ui/assets/..%2findex.html', '/ui/assets/index.html', '/ui/x'])
      expect([path, await status(path)]).toEqual([path, 404]);
  });
});
