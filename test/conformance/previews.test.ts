import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { LookupFunction } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ApiKeys } from '../../dist/home/keys.js';
import { type ServedHome, serveHttp } from '../../dist/home/serve-http.js';
import { connectRuntime } from '../../dist/remote/index.js';
import type { Box, CreatedPreview, Runtime } from '../../src/api/index.js';
import { mustRun } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';
import { webSocketEcho } from '../support/web-socket-echo.js';

/** Answers with the head of a request; `/events` with two events a word apart; a WebSocket with what it is sent. */
const program = `
import base64, hashlib, http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self):
${webSocketEcho}
        self.send_response(200)
        if self.path == "/events":
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: one\\n\\n")
            while not os.path.exists("/tmp/go-on"): time.sleep(0.01)
            self.wfile.write(b"data: two\\n\\n")
            self.close_connection = True
            return
        body = (self.requestline + "\\n" + "".join(f"{k}: {v}\\n" for k, v in self.headers.raw_items())).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Handler).serve_forever()
`;

/** Machines, and Python in them, take long to begin on a busy host. */
const startMs = 180_000;
const name = 'cryobox-preview-token';

/** Names below localhost lead to this host, as browsers and curl have it (RFC 6761, section 6.3). */
const toThisHost: LookupFunction = (_host, options, give) =>
  options.all ? give(null, [{ address: '127.0.0.1', family: 4 }]) : give(null, '127.0.0.1', 4);

async function open(url: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const asked = httpRequest(url, { lookup: toThisHost, agent: false, headers });
  asked.on('error', () => undefined);
  asked.end();
  return ((await once(asked, 'response')) as [IncomingMessage])[0];
}

async function ask(url: string, headers: Record<string, string> = {}) {
  const answer = await open(url, headers);
  return { status: answer.statusCode, headers: answer.headers, body: await text(answer) };
}

const codeOf = (body: string) => (JSON.parse(body) as { error: { code: string; hint?: string } }).error.code;

describe('previews', { timeout: startMs }, () => {
  let home: TestHome;
  let served: ServedHome;
  let ours: Runtime;
  let local: Runtime;
  let theirs: Runtime;
  let box: Box;
  let secret: CreatedPreview;
  let shown: CreatedPreview;

  const tokenOf = ({ token }: CreatedPreview) => ({ [name]: token ?? '' });
  const urlOf = ({ url }: { url: string | null }, path = '') => `${url}${path}`;

  beforeAll(async () => {
    home = await newHome();
    const keys = await ApiKeys.open(home.path);
    const key = (await keys.create()).key;
    const other = (await keys.create({ tenant: 'acme' })).key;
    await keys[Symbol.asyncDispose]();
    served = await serveHttp({ home: home.path, listen: { port: 0 }, poolSize: 0 });
    const { url } = served.address;
    ours = connectRuntime({ url, apiKey: key });
    theirs = connectRuntime({ url, apiKey: other, prefix: 'acme' });
    local = connectRuntime({ socketPath: join(home.path, 'engine.sock') });
    box = await ours.create({ image: 'debian-python', name: 'web', detach: true });
    await box.files.write('/tmp/server.py', program);
    await box.startExec(['python3', '/tmp/server.py']);
    await box.waitForPort(3000, { timeoutMs: startMs / 2 });
    secret = await box.previews.create({ port: 3000 });
    shown = await box.previews.create({ port: 3000, access: 'public' });
  }, startMs);

  afterAll(async () => {
    await box.remove({ force: true });
    for (const runtime of [ours, theirs, local]) await runtime.close();
    await served.close();
    await home[Symbol.asyncDispose]();
  });

  it('are told alike over every way, with an address of their own and without their token', async () => {
    const { port } = new URL(served.address.url);
    expect(secret).toMatchObject({ port: 3000, access: 'private' });
    expect(secret.url).toBe(`http://3000-p${secret.id.slice(4)}.localhost:${port}/`);
    expect(secret.token).toMatch(/^[\w-]{32}$/);
    expect(shown).toMatchObject({ access: 'public', token: null });
    const { token: _, ...told } = secret;
    const { token: _none, ...other } = shown;
    expect(await box.previews.list()).toEqual([told, other]);
    expect(await (await local.get('web'))?.previews.list()).toEqual([told, other]);
    await expect(box.previews.create({ port: 0 })).rejects.toMatchObject({ code: 'invalid_argument' });
    const bad = { port: 80, access: 'secret' as 'public' };
    const wrong = { code: 'invalid_argument' };
    await expect(box.previews.create(bad)).rejects.toMatchObject(wrong);
    await expect((await local.get('web'))?.previews.create(bad)).rejects.toMatchObject(wrong);
    await expect(box.previews.remove('prv_none')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('that are private ask for their token, which the box never sees', async () => {
    const none = await ask(urlOf(secret));
    expect([none.status, codeOf(none.body)]).toEqual([401, 'unauthenticated']);
    for (const wrong of ['x', `${secret.token}x`, secret.token?.slice(1) ?? '']) {
      for (const answer of [
        await ask(urlOf(secret), { [name]: wrong }),
        await ask(urlOf(secret), { cookie: `${name}=${wrong}` }),
        await ask(urlOf(secret, `?${name}=${wrong}`)),
      ]) {
        expect([answer.status, codeOf(answer.body)]).toEqual([403, 'permission_denied']);
        expect(answer.body).not.toContain(secret.token ?? '');
      }
    }
    const byHeader = await ask(urlOf(secret, 'a?b=%20c'), { ...tokenOf(secret), cookie: 'a=b' });
    expect(byHeader).toMatchObject({ status: 200 });
    expect(byHeader.body).toMatch(/^GET \/a\?b=%20c HTTP\/1.1\n/);
    const page = await ask(urlOf(secret, `a?x=1&${name}=${secret.token}`), { accept: 'text/html' });
    expect([page.status, page.headers.location]).toEqual([302, '/a?x=1']);
    const [cookie = ''] = page.headers['set-cookie'] ?? [];
    expect(cookie).toBe(`${name}=${secret.token}; Path=/; HttpOnly; SameSite=Lax`);
    const byCookie = await ask(urlOf(secret), { cookie: `a=b; ${cookie.split(';')[0]}` });
    expect(byCookie.status).toBe(200);
    for (const { body } of [byHeader, byCookie]) {
      expect(body).toContain('a=b');
      expect(body.toLowerCase()).not.toContain(name);
      expect(body).not.toContain(secret.token ?? '');
    }
    expect((await ask(urlOf(shown))).status).toBe(200);
  });

  it('speak WebSocket, and give events as they come', async () => {
    const at = urlOf(secret).replace('http', 'ws');
    const socket = new WebSocket(at, { lookup: toThisHost, headers: tokenOf(secret) });
    await once(socket, 'open');
    socket.send('over WebSocket');
    expect(String(((await once(socket, 'message')) as [Buffer])[0])).toBe('over WebSocket');
    socket.terminate();
    const refused = new WebSocket(at, { lookup: toThisHost });
    const [error] = (await once(refused, 'error')) as [Error];
    expect(error.message).toContain('401');
    const events = await open(urlOf(shown, 'events'));
    const pieces = events.iterator({ destroyOnReturn: false });
    expect(String((await pieces.next()).value)).toBe('data: one\n\n');
    await box.files.write('/tmp/go-on', '');
    expect(String((await pieces.next()).value)).toBe('data: two\n\n');
  });

  it('serve no API, take no key and no session at their names, and tell the box of none', async () => {
    const { port } = new URL(served.address.url);
    for (const host of [new URL(urlOf(shown)).host, `3000-p${'0'.repeat(26)}.localhost:${port}`]) {
      for (const path of ['v1/config', 'v1/boxes', 'healthz', 'ui/']) {
        const answer = await ask(`http://${host}/${path}`, { cookie: `cryobox_session_${port}=x; kept=1` });
        expect(answer.headers['x-request-id']).toBeUndefined();
        if (host === new URL(urlOf(shown)).host) {
          expect(answer.body).toMatch(new RegExp(`^GET /${path} HTTP`));
          expect(answer.body).toMatch(/cookie: kept=1\n/i);
        } else expect([answer.status, codeOf(answer.body)]).toEqual([404, 'not_found']);
      }
    }
    // The label of another port of the box is none of its names.
    expect((await ask(urlOf(shown).replace('//3000-', '//3001-'))).status).toBe(404);
    expect((await ask(`${served.address.url}/v1/boxes`)).status).toBe(401);
  });

  it('of a port that is closed say so at once, to browsers as a page', async () => {
    const closed = await box.previews.create({ port: 3999, access: 'public' });
    const answer = await ask(urlOf(closed));
    expect([answer.status, codeOf(answer.body)]).toEqual([502, 'network_unavailable']);
    const page = await ask(urlOf(closed), { accept: 'text/html' });
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.body).toContain('nothing answers on port 3999 of the box');
    await box.previews.remove(closed.id);
    expect((await ask(urlOf(closed))).status).toBe(404);
  });

  it('are nobody else’s, and those of a removed one are cut off', async () => {
    await expect(theirs.get('web')).resolves.toBeNull();
    const fork = (await box.fork({ count: 1 }))[0];
    if (!fork || 'error' in fork) throw new Error('there is no fork');
    expect(await fork.box.previews.list()).toEqual([]);
    await expect(fork.box.previews.remove(shown.id)).rejects.toMatchObject({ code: 'not_found' });
    await fork.box.remove({ force: true });
    const own = await box.previews.create({ port: 3000, access: 'public' });
    const socket = new WebSocket(urlOf(own).replace('http', 'ws'), { lookup: toThisHost });
    await once(socket, 'open');
    const closed = once(socket, 'close');
    await box.previews.remove(own.id);
    await closed;
  });

  it('are made, listed and ended by the command line', async () => {
    const cli = async (...words: string[]) => (await mustRun(home.path, 'preview', 'web', ...words)).trim();
    const made = new URL(await cli('3000'));
    expect((await ask(made.href)).status).toBe(200);
    expect((await ask(made.origin)).status).toBe(401);
    expect((await ask(await cli('3000', '--public'))).status).toBe(200);
    const all = await box.previews.list();
    expect(JSON.parse(await cli('--format', 'json'))).toHaveLength(all.length);
    expect(await cli()).toMatch(/PORT +ACCESS.*\n.*3000 +private .*http:/s);
    const mine = all.filter(({ id }) => id !== secret.id && id !== shown.id);
    expect(await cli(...mine.flatMap(({ id }) => ['--rm', id]))).toBe('');
    expect(await box.previews.list()).toHaveLength(2);
  });

  it('bring a paused box up, and leave one alone that is not to be brought up', async () => {
    await box.pause();
    expect((await ask(urlOf(secret))).status).toBe(401);
    expect((await box.info()).status).toBe('paused');
    expect((await ask(urlOf(secret), tokenOf(secret))).status).toBe(200);
    expect((await box.info()).status).toBe('running');
    const asleep = await ours.create({ image: 'tiny', autoResume: false, detach: true });
    const preview = await asleep.previews.create({ port: 80, access: 'public' });
    await asleep.stop();
    const answer = await ask(urlOf(preview));
    expect([answer.status, codeOf(answer.body)]).toEqual([503, 'stopped']);
    expect((await asleep.info()).status).toBe('stopped');
    await asleep.remove({ force: true });
    expect((await ask(urlOf(preview))).status).toBe(404);
  });
});
