import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { LookupFunction } from 'node:net';
import { text } from 'node:stream/consumers';
import { ApiKeyCredential, BoxliteRestOptions, JsBoxlite } from '@boxlite-ai/boxlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ApiKeys } from '../../dist/home/keys.js';
import { type ServedHome, serveHttp } from '../../dist/home/serve-http.js';
import { connectRuntime } from '../../dist/remote/index.js';
import type { Box, Runtime } from '../../src/api/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { webSocketEcho } from '../support/web-socket-echo.js';

/** Answers with the host that a request was for; says what a WebSocket says; `/hold` is never answered to its end. */
const program = `
import base64, hashlib, http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self):
${webSocketEcho}
        body = self.headers["Host"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if self.path != "/hold" else 1000))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/hold": time.sleep(600)
http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Handler).serve_forever()
`;

/** Machines, and Python in them, take long to begin on a busy host. */
const startMs = 180_000;

/** Names below localhost lead to this host, as browsers and curl have it (RFC 6761, section 6.3). */
const toThisHost: LookupFunction = (_host, options, give) =>
  options.all ? give(null, [{ address: '127.0.0.1', family: 4 }]) : give(null, '127.0.0.1', 4);

async function open(url: string): Promise<IncomingMessage> {
  const asked = httpRequest(url, { lookup: toThisHost, agent: false });
  asked.on('error', () => undefined);
  asked.end();
  return ((await once(asked, 'response')) as [IncomingMessage])[0];
}

async function ask(url: string): Promise<readonly [number | undefined, string]> {
  const answer = await open(url);
  return [answer.statusCode, await text(answer)];
}

/** Resolves when an answer is cut off. */
async function cutOff(answer: IncomingMessage): Promise<void> {
  answer.on('error', () => undefined).resume();
  await new Promise((resolve) => answer.once('close', resolve));
}

/** What a WebSocket at an address says to a word. */
async function echoOf(url: string, word: string): Promise<string> {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), { lookup: toThisHost });
  await once(socket, 'open');
  socket.send(word);
  const [said] = (await once(socket, 'message')) as [Buffer];
  socket.close();
  return said.toString();
}

describe('addresses of ports, by the routes of BoxLite', { timeout: startMs }, () => {
  let home: TestHome;
  let served: ServedHome;
  let ours: Runtime;
  let box: Box;
  let key: { readonly id: string; readonly key: string };
  let second: { readonly id: string; readonly key: string };
  let stranger: string;
  let keys: ApiKeys;

  beforeAll(async () => {
    home = await newHome();
    keys = await ApiKeys.open(home.path);
    key = await keys.create();
    second = await keys.create();
    stranger = (await keys.create({ tenant: 'acme' })).key;
    served = await serveHttp({ home: home.path, listen: { port: 0 }, poolSize: 0 });
    ours = connectRuntime({ url: served.address.url, apiKey: key.key });
    box = await ours.create({ image: 'debian-python', name: 'web', detach: true });
    await box.files.write('/tmp/server.py', program);
    await box.startExec(['python3', '/tmp/server.py']);
    await box.waitForPort(3000, { timeoutMs: startMs / 2 });
  }, startMs);

  afterAll(async () => {
    await box.remove({ force: true });
    await ours.close();
    await served.close();
    await keys[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  const call = async (
    method: string,
    path: string,
    { as = key.key, json }: { as?: string; json?: unknown } = {},
  ) => {
    const answer = await fetch(`${served.address.url}/v1/boxes/${path}`, {
      method,
      headers: {
        authorization: `Bearer ${as}`,
        ...(json !== undefined && { 'content-type': 'application/json' }),
      },
      body: json === undefined ? undefined : JSON.stringify(json),
    });
    const body = await answer.text();
    return { status: answer.status, json: body === '' ? {} : (JSON.parse(body) as Record<string, unknown>) };
  };
  const tunnel = async (as?: string, port = 3000) =>
    (await call('POST', `web/network/tunnel?port=${port}`, { as })).json as { uri: string; url: string };
  const codeOf = ({ json }: { json: Record<string, unknown> }) => (json['error'] as { code: string }).code;

  it('are private, serve HTTP and WebSockets as often as wanted, and the same is told again', async () => {
    const { uri, url } = await tunnel();
    const { host, port } = new URL(served.address.url);
    expect(uri).toMatch(new RegExp(`^http://3000-[0-9a-f]{48}@${host}/$`));
    expect(url).toBe(`http://${new URL(uri).username}.localhost:${port}/`);
    expect(await tunnel()).toEqual({ uri, url });
    for (let time = 0; time < 3; time += 1) {
      expect(await ask(`${url}page`)).toEqual([200, new URL(url).host]);
      expect(await echoOf(url, `word ${time}`)).toBe(`word ${time}`);
    }
    // Another key has another address, and so has another port, where nobody listens.
    expect((await tunnel(second.key)).uri).not.toBe(uri);
    expect((await ask((await tunnel(undefined, 3999)).url))[0]).toBe(502);
    const guessed = url.replace(/[0-9a-f]{4}\./, '0000.');
    expect((await ask(guessed))[0]).toBe(404);
    expect((await ask(url.replace('3000-', '3001-')))[0]).toBe(404);
  });

  it('are used by an official client, many times at once', async () => {
    const options = { url: served.address.url, credential: new ApiKeyCredential(key.key) };
    const client = JsBoxlite.rest(new BoxliteRestOptions(options));
    const theirs = await client.get('web');
    if (!theirs) throw new Error('no box');
    const uris = new Set<string>();
    const get = async (): Promise<string> => {
      // Its handle is one connection; all of them have the same address.
      const opened = await theirs.network.tunnel(3000);
      uris.add(opened.uri() ?? '');
      const connection = await opened.connect();
      await connection.write(Buffer.from('GET / HTTP/1.0\r\nHost: inside.test\r\n\r\n'));
      let answer = '';
      while (!answer.endsWith('inside.test')) answer += (await connection.read(1000)).toString();
      await connection.close();
      return answer.slice(-11);
    };
    expect(await get()).toBe('inside.test');
    expect(await Promise.all([get(), get(), get()])).toEqual(Array(3).fill('inside.test'));
    expect([...uris]).toEqual([(await tunnel()).uri]);
  });

  it('end when they are revoked, and with the key they were asked for with', async () => {
    const [first, other] = [await tunnel(), await tunnel(second.key)];
    const held = await open(`${first.url}hold`);
    const cut = cutOff(held);
    expect((await call('DELETE', 'web/network/tunnel?port=3001')).status).toBe(204);
    expect((await ask(first.url))[0]).toBe(200);
    expect((await call('DELETE', 'web/network/tunnel?port=3000')).status).toBe(204);
    await cut;
    expect(held.complete).toBe(false);
    for (const { url } of [first, other]) expect((await ask(url))[0]).toBe(404);
    expect((await call('DELETE', 'web/network/tunnel?port=3000')).status).toBe(204);
    const again = await tunnel(second.key);
    expect(again.uri).not.toBe(other.uri);
    const holding = await open(`${again.url}hold`);
    const ended = cutOff(holding);
    await keys.remove(second.id);
    await ended;
    expect((await ask(again.url))[0]).toBe(404);
  });

  it('are public when the box is made so, until it is private again', async () => {
    const publicUrl = `http://3000-b${box.id.slice(4)}.localhost:${new URL(served.address.url).port}/`;
    expect((await box.network.info()).inbound).toBe('private');
    expect((await ask(publicUrl))[0]).toBe(404);
    const opened = await call('PUT', 'web/network/inbound', { json: { mode: 'enabled' } });
    expect(opened).toMatchObject({ status: 200, json: { inbound: { mode: 'enabled' } } });
    const { uri, url } = await tunnel();
    expect([url, new URL(uri).username]).toEqual([publicUrl, `3000-b${box.id.slice(4)}`]);
    expect((await ask(url))[0]).toBe(200);
    expect(await echoOf(url, 'to all')).toBe('to all');
    expect(await call('DELETE', 'web/network/tunnel?port=3000')).toMatchObject({ status: 409 });
    const clone = await box.clone();
    expect((await clone.network.info()).inbound).toBe('private');
    await clone.remove({ force: true });
    const held = await open(`${url}hold`);
    const cut = cutOff(held);
    expect((await box.network.setInbound('private')).inbound).toBe('private');
    await cut;
    expect((await ask(url))[0]).toBe(404);
    await expect(box.network.setInbound('all' as 'public')).rejects.toMatchObject({
      code: 'invalid_argument',
    });
    await expect(box.network.setInbound(null as never)).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('refuse what is wrong by name, other tenants, and boxes that do not run', async () => {
    for (const [method, path, json] of [
      ['DELETE', 'web/network/tunnel', undefined],
      ['DELETE', 'web/network/tunnel?port=0', undefined],
      ['POST', 'web/network/tunnel?port=x', undefined],
      ['PUT', 'web/network/inbound', {}],
      ['PUT', 'web/network/inbound', { mode: 'public' }],
      ['PUT', 'web/network/inbound', { mode: 'enabled', allow_net: [] }],
      ['PUT', 'web/network/inbound', []],
      ['PUT', 'web/network/outbound', {}],
      ['PUT', 'web/network/outbound', { mode: true }],
      ['PUT', 'web/network/outbound', { mode: 'enabled', rules: [] }],
      ['PUT', 'web/network/outbound', { mode: 'enabled', allow_net: ['a b'] }],
    ] as const) {
      expect([method, path, json, (await call(method, path, { json })).status]).toEqual([
        method,
        path,
        json,
        400,
      ]);
    }
    for (const [method, path, json] of [
      ['DELETE', `${box.id}/network/tunnel?port=3000`, undefined],
      ['PUT', `${box.id}/network/inbound`, { mode: 'enabled' }],
      ['PUT', `${box.id}/network/outbound`, { mode: 'disabled' }],
    ] as const) {
      const refused = await call(method, path, { json, as: stranger });
      expect([refused.status, codeOf(refused)]).toEqual([404, 'not_found']);
    }
    // A box that runs without lists has no gateway that could take others.
    const outbound = { mode: 'enabled', allow_net: ['example.com'] };
    expect(await call('PUT', 'web/network/outbound', { json: outbound })).toMatchObject({ status: 409 });
    const { url } = await tunnel();
    await box.stop();
    expect((await ask(url))[0]).toBe(503);
    expect(await call('POST', 'web/network/tunnel?port=3000')).toMatchObject({ status: 409 });
    expect(await call('PUT', 'web/network/outbound', { json: outbound })).toMatchObject({
      status: 200,
      json: { outbound: { mode: 'enabled', allow_net: ['example.com'], deny_net: [] } },
    });
    expect(await call('PUT', 'web/network/inbound', { json: { mode: 'enabled' } })).toMatchObject({
      status: 200,
    });
    expect((await box.info()).status).toBe('stopped');
    expect((await call('DELETE', 'none/network/tunnel?port=3000')).status).toBe(404);
  });
});
