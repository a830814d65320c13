import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { NpmClient } from '../support/npm-client.js';
import { E2bStage, keys } from './stage.js';

/**
 * A server that listens on a port of a loopback address and says what it was asked: `/raw` the head of the request as it
 * came, `/echo` its body, `/events` two events a word from outside apart, `/big` 50 MB, `/slow` never, `/cut` half of what it
 * promised; it answers an upgrade by sending everything back in capitals.
 */
const server = `
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def answer(self, body, status=200, headers={}):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size)); self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    def do_GET(self):
        path = self.path.split("?")[0]
        if self.headers.get("Upgrade") == "loud":
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: loud\\r\\nConnection: Upgrade\\r\\nX-Odd-CASE: kept\\r\\n\\r\\nHELLO ")
            while chunk := os.read(self.connection.fileno(), 65536): self.wfile.write(chunk.upper())
            self.wfile.write(b" BYE")
            self.close_connection = True
        elif path == "/raw":
            head = (self.requestline + "\\n" + "".join(f"{k}: {v}\\n" for k, v in self.headers.raw_items())).encode()
            self.answer(head, headers={"X-Odd-CASE": "kept", "Set-Cookie": "a=b"})
        elif path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: one\\n\\n")
            while not os.path.exists("/tmp/go-on"): time.sleep(0.01)
            self.wfile.write(b"data: two\\n\\n")
            self.close_connection = True
        elif path == "/big":
            self.send_response(200)
            self.send_header("Content-Length", str(50 * 1000000))
            self.end_headers()
            for number in range(50):
                self.wfile.write(b"x" * 1000000)
                open("/tmp/written", "w").write(str(number + 1))
        elif path == "/slow":
            open("/tmp/slow", "w").close()
            time.sleep(600)
        elif path == "/cut":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"half")
            self.wfile.flush()
            time.sleep(600)
        else: self.answer(b"hello from " + sys.argv[2].encode())
    def do_POST(self): self.answer(self.body(), 201)
    do_PUT = do_POST
    do_HEAD = lambda self: self.answer(b"")
class V6(http.server.ThreadingHTTPServer):
    import socket
    address_family = socket.AF_INET6
kind = V6 if ":" in sys.argv[2] else http.server.ThreadingHTTPServer
if len(sys.argv) > 3:
    import ssl
    listening = kind((sys.argv[2], int(sys.argv[1])), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3])
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    listening.serve_forever()
else: kind((sys.argv[2], int(sys.argv[1])), Handler).serve_forever()
`;

interface Sandbox {
  readonly id: string;
  readonly box: string;
  readonly trafficToken: string | undefined;
}

interface Answer {
  readonly status: number | undefined;
  readonly body: string;
  readonly message: IncomingMessage;
}

/** Machines, and Python in them, take long to begin on a busy host. */
const startMs = 180_000;

describe('ports of sandboxes', { timeout: startMs }, () => {
  let stage: E2bStage;
  let sandbox: Sandbox;

  const make = async (more: object = {}): Promise<Sandbox> => {
    const answer = await fetch(`${stage.url}/v2/sandboxes`, {
      method: 'POST',
      headers: { 'x-api-key': keys.owner, 'content-type': 'application/json' },
      body: JSON.stringify({ templateID: 'base', ...more }),
    });
    expect(answer.status).toBe(201);
    const { sandboxID, trafficAccessToken } = (await answer.json()) as Record<string, string>;
    return { id: sandboxID ?? '', box: `box_${sandboxID?.slice(1)}`, trafficToken: trafficAccessToken };
  };
  const boxOf = async ({ box }: Sandbox) => {
    const found = await stage.engine.runtime().get(box);
    if (!found) throw new Error('the sandbox has no box');
    return found;
  };
  const control = (method: string, path: string, body?: object) =>
    fetch(`${stage.url}${path}`, {
      method,
      headers: { 'x-api-key': keys.owner, 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
    });
  const serve = async (which: Sandbox, port: number, address: string, ...more: string[]) => {
    const box = await boxOf(which);
    await box.files.write('/tmp/server.py', server);
    await box.startExec(['python3', '/tmp/server.py', String(port), address, ...more]);
    await box.waitForPort(port, { timeoutMs: startMs / 2 });
  };
  const hostOf = ({ id }: Sandbox, port: number) => `${port}-${id}.localhost:${new URL(stage.url).port}`;
  const open = async (
    which: Sandbox,
    port: number,
    path: string,
    options: RequestOptions = {},
    body?: string,
  ) => {
    const { port: serverPort } = new URL(stage.url);
    const asked = httpRequest({
      host: '127.0.0.1',
      port: serverPort,
      path,
      agent: false,
      ...options,
      headers: { host: hostOf(which, port), ...options.headers },
    });
    asked.on('error', () => undefined);
    asked.end(body);
    const [message] = (await once(asked, 'response')) as [IncomingMessage];
    return message;
  };
  const ask = async (...asked: Parameters<typeof open>): Promise<Answer> => {
    const message = await open(...asked);
    return { status: message.statusCode, body: await text(message), message };
  };
  /** What became of an answer whose head has come: `cut` is an end out of turn. */
  const fate = (message: IncomingMessage) =>
    text(message).then(
      () => 'whole',
      () => 'cut',
    );

  beforeAll(async () => {
    stage = await E2bStage.open();
    sandbox = await make();
    await serve(sandbox, 3000, '127.0.0.1');
  }, startMs);
  afterAll(() => stage.close());

  it('are reached by host name and by header, on every loopback address', async () => {
    await serve(sandbox, 3001, '::1');
    await serve(sandbox, 3002, '0.0.0.0');
    expect(await ask(sandbox, 3000, '/')).toMatchObject({ status: 200, body: 'hello from 127.0.0.1' });
    expect(await ask(sandbox, 3001, '/')).toMatchObject({ status: 200, body: 'hello from ::1' });
    expect(await ask(sandbox, 3002, '/')).toMatchObject({ status: 200, body: 'hello from 0.0.0.0' });
    const headers = { host: 'localhost', 'e2b-sandbox-id': sandbox.id, 'e2b-sandbox-port': '3000' };
    expect(await ask(sandbox, 1, '/health', { headers })).toMatchObject({ body: 'hello from 127.0.0.1' });
    // A page at a name of its own does not get elsewhere by its headers.
    const other = { 'e2b-sandbox-id': sandbox.id, 'e2b-sandbox-port': '3001' };
    expect(await ask(sandbox, 3000, '/', { headers: other })).toMatchObject({ body: 'hello from 127.0.0.1' });
  });

  it('get requests and give answers as they were written', async () => {
    const host = hostOf(sandbox, 3000);
    const headers = {
      'X-Odd-CASE': 'a',
      'X-Forwarded-For': '9.9.9.9',
      Connection: 'X-Hop, keep-alive',
      'X-Hop': 'b',
    };
    const { body, message } = await ask(sandbox, 3000, '/raw?a=%20b&&c', {
      headers: { ...headers, Host: host },
    });
    const lines = body.split('\n');
    expect(lines).toEqual(
      expect.arrayContaining(['GET /raw?a=%20b&&c HTTP/1.1', 'X-Odd-CASE: a', `X-Forwarded-Host: ${host}`]),
    );
    expect(lines).toEqual(expect.arrayContaining(['X-Forwarded-For: 127.0.0.1', 'X-Forwarded-Proto: http']));
    expect(body).toMatch(/^host: /im);
    expect(body).not.toMatch(/9\.9\.9\.9|X-Hop/);
    expect(message.rawHeaders).toEqual(expect.arrayContaining(['X-Odd-CASE', 'kept', 'Set-Cookie', 'a=b']));
    const chunked = { method: 'POST', headers: { 'Transfer-Encoding': 'chunked' } };
    expect(await ask(sandbox, 3000, '/echo', chunked, 'ä body')).toMatchObject({
      status: 201,
      body: 'ä body',
    });
    expect(await ask(sandbox, 3000, '/echo', { method: 'PUT' }, 'more')).toMatchObject({
      status: 201,
      body: 'more',
    });
    expect(await ask(sandbox, 3000, '/echo', { method: 'POST' })).toMatchObject({ status: 201, body: '' });
    expect(await ask(sandbox, 3000, '/', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
  });

  it('stream answers as they come, and are not read faster than the client reads', async () => {
    const box = await boxOf(sandbox);
    const events = await open(sandbox, 3000, '/events');
    const pieces = events.iterator({ destroyOnReturn: false });
    expect(String((await pieces.next()).value)).toBe('data: one\n\n');
    await box.files.write('/tmp/go-on', '');
    expect(String((await pieces.next()).value)).toBe('data: two\n\n');
    const big = await open(sandbox, 3000, '/big');
    await once(big, 'readable');
    await box.exec(['sh', '-c', 'until [ -s /tmp/written ]; do sleep 0.02; done; sleep 1']);
    expect(Number((await box.files.read('/tmp/written')).toString())).toBeLessThan(30);
    let bytes = 0;
    for await (const chunk of big) bytes += (chunk as Buffer).length;
    expect(bytes).toBe(50_000_000);
  });

  it('take upgrades over, with what was sent at once and with the end of each half', async () => {
    const socket = connect({ port: Number(new URL(stage.url).port), host: '127.0.0.1', allowHalfOpen: true });
    socket.end(
      `GET / HTTP/1.1\r\nHost: ${hostOf(sandbox, 3000)}\r\nConnection: Upgrade\r\nUpgrade: loud\r\n\r\nsaid at once`,
    );
    const answer = await text(socket);
    expect(answer).toMatch(/^HTTP\/1.1 101 Switching Protocols\r\n/);
    expect(answer).toContain('X-Odd-CASE: kept');
    expect(answer).toMatch(/\r\n\r\nHELLO SAID AT ONCE BYE$/);
    // What the program does not take over is an answer as any other.
    const upgrade = { headers: { connection: 'Upgrade', upgrade: 'other' } };
    expect(await ask(sandbox, 3000, '/', upgrade)).toMatchObject({
      status: 200,
      body: 'hello from 127.0.0.1',
    });
  });

  it('speak WebSocket', async () => {
    const box = await boxOf(sandbox);
    const echo = `
import base64, hashlib, socket
listener = socket.create_server(("127.0.0.1", 3005))
while True:
    connection, _ = listener.accept()
    head = b""
    while b"\\r\\n\\r\\n" not in head and (more := connection.recv(1000)): head += more
    if not head: continue
    key = [line.split(b": ")[1] for line in head.split(b"\\r\\n") if line.lower().startswith(b"sec-websocket-key")][0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
    while frame := connection.recv(2):
        mask = connection.recv(4)
        said = bytes(byte ^ mask[at % 4] for at, byte in enumerate(connection.recv(frame[1] & 127)))
        connection.sendall(bytes([frame[0], len(said)]) + said)
`;
    await box.files.write('/tmp/echo.py', echo);
    await box.startExec(['python3', '/tmp/echo.py']);
    await box.waitForPort(3005, { timeoutMs: startMs / 2 });
    const socket = new WebSocket(stage.url.replace('http', 'ws'), {
      headers: { host: hostOf(sandbox, 3005) },
    });
    await once(socket, 'open');
    socket.send('over WebSocket');
    const [data] = (await once(socket, 'message')) as [Buffer];
    expect(data.toString()).toBe('over WebSocket');
    socket.terminate();
  });

  it('that nothing serves are told in the words that clients know, to browsers as a page', async () => {
    const gone = { ...sandbox, id: `i${'0'.repeat(26)}` };
    const json = (answer: Answer) => [
      answer.status,
      answer.message.headers['content-type'],
      JSON.parse(answer.body),
    ];
    const type = 'application/json; charset=utf-8';
    expect(json(await ask(gone, 3000, '/'))).toEqual([
      502,
      type,
      { sandboxId: gone.id, message: 'The sandbox was not found', code: 502 },
    ]);
    expect(json(await ask(sandbox, 81, '/'))).toEqual([
      502,
      type,
      { sandboxId: sandbox.id, message: 'The sandbox is running but port is not open', port: 81, code: 502 },
    ]);
    const headers = { 'user-agent': 'Mozilla/5.0 (X11)' };
    const page = await ask(sandbox, 81, '/', { headers });
    expect(page.message.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(page.body).toMatch(/^<html.*no service running on port 81.*<\/html>$/s);
    expect(page.body).toContain(sandbox.id);
    expect((await ask(gone, 81, '/', { headers })).body).toContain('Sandbox Not Found');
    // One that others made says nothing of its ports: they are nobody's.
    const own = await stage.engine.runtime().create({ image: 'debian-python', detach: true });
    const made = { id: `i${own.id.slice(4)}`, box: own.id, trafficToken: undefined };
    expect(await ask(made, 3000, '/')).toMatchObject({ status: 403 });
    await own.remove({ force: true });
  });

  it('that are private ask for their token, in a header, a cookie, or once in the address of a page', async () => {
    const secret = await make({ network: { allowPublicTraffic: false } });
    await serve(secret, 3000, '127.0.0.1');
    const token = secret.trafficToken ?? '';
    const name = 'e2b-traffic-access-token';
    const message = async (path: string, headers: Record<string, string> = {}) => {
      const { status, body } = await ask(secret, 3000, path, { headers });
      return [status, status === 403 ? (JSON.parse(body) as { message: string }).message : body];
    };
    const missing =
      "Sandbox is secured with traffic access token. Token header 'e2b-traffic-access-token' is missing";
    const invalid =
      "Sandbox is secured with traffic access token. Provided token in header 'e2b-traffic-access-token' is invalid";
    expect(await message('/')).toEqual([403, missing]);
    for (const wrong of ['x', token.slice(1), `${token}0`]) {
      expect(await message('/', { [name]: wrong })).toEqual([403, invalid]);
      expect(await message(`/?${name}=${wrong}`)).toEqual([403, invalid]);
      expect(await message('/', { cookie: `${name}=${wrong}` })).toEqual([403, invalid]);
    }
    for (const [path, headers] of [
      ['/raw?a=1', { [name]: token }],
      [`/raw?${name}=${token}&a=1`, {}],
      ['/raw?a=1', { cookie: `b=c; ${name}=${token}; d=e` }],
    ] as const) {
      const [status, head] = await message(path, headers as Record<string, string>);
      expect(status).toBe(200);
      expect(head).toContain('GET /raw?a=1 HTTP');
      // No program in the box learns it.
      expect(head).not.toContain(token);
    }
    expect((await message('/raw', { cookie: `b=c; ${name}=${token}; d=e` }))[1]).toMatch(
      /^cookie: b=c; d=e$/im,
    );
    const page = await ask(secret, 3000, `//page?x=%20&${name}=${token}`, {
      headers: { accept: 'text/html,*/*' },
    });
    expect(page.message.headers).toMatchObject({ location: '/page?x=%20', 'cache-control': 'no-store' });
    const [cookie = ''] = page.message.headers['set-cookie'] ?? [];
    expect([page.status, cookie]).toEqual([302, expect.stringMatching(/; Path=\/; HttpOnly; SameSite=Lax$/)]);
    expect((await message('/', { cookie: cookie.split(';')[0] ?? '' }))[0]).toBe(200);
    // Another sandbox's token is none.
    const other = await make({ network: { allowPublicTraffic: false } });
    expect((await message('/', { [name]: other.trafficToken ?? '' }))[0]).toBe(403);
    const upgrade = { connection: 'Upgrade', upgrade: 'loud' };
    expect(await ask(secret, 3000, '/', { headers: upgrade })).toMatchObject({ status: 403 });
    for (const each of [secret, other]) await control('DELETE', `/sandboxes/${each.id}`);
  });

  it('are cut off when the sandbox is killed, and asked in vain then', async () => {
    const doomed = await make();
    const box = await boxOf(doomed);
    await serve(doomed, 3000, '127.0.0.1');
    const streamed = fate(await open(doomed, 3000, '/cut'));
    const waiting = ask(doomed, 3000, '/slow');
    const socket = connect(Number(new URL(stage.url).port), '127.0.0.1');
    socket.write(
      `GET / HTTP/1.1\r\nHost: ${hostOf(doomed, 3000)}\r\nConnection: Upgrade\r\nUpgrade: loud\r\n\r\n`,
    );
    await once(socket, 'data');
    const torn = once(socket, 'error');
    await box.exec(['sh', '-c', 'until [ -e /tmp/slow ]; do sleep 0.02; done']);
    expect((await control('DELETE', `/sandboxes/${doomed.id}`)).status).toBe(204);
    expect(await streamed).toBe('cut');
    expect(await waiting).toMatchObject({ status: 502, body: expect.stringContaining('was not found') });
    expect((await torn)[0]).toMatchObject({ code: 'ECONNRESET' });
    expect(await ask(doomed, 3000, '/')).toMatchObject({ status: 502 });
  });

  it('are cut off by a pause and by a death, and wake a sandbox that traffic wakes, but not without its token', async () => {
    const sleeper = await make({
      autoPause: true,
      autoResume: { enabled: true },
      network: { allowPublicTraffic: false },
    });
    await serve(sleeper, 3000, '127.0.0.1');
    const headers = { 'e2b-traffic-access-token': sleeper.trafficToken ?? '' };
    const box = await boxOf(sleeper);
    const streamed = fate(await open(sleeper, 3000, '/cut', { headers }));
    expect((await control('POST', `/sandboxes/${sleeper.id}/pause`, {})).status).toBe(204);
    expect(await streamed).toBe('cut');
    expect(await ask(sleeper, 3000, '/')).toMatchObject({ status: 403 });
    expect((await box.info()).status).toBe('paused');
    const all = await Promise.all([1, 2, 3].map(() => ask(sleeper, 3000, '/', { headers })));
    expect(all.map(({ body }) => body)).toEqual(Array(3).fill('hello from 127.0.0.1'));
    expect((await box.info()).status).toBe('running');
    const again = fate(await open(sleeper, 3000, '/cut', { headers }));
    await box.remove({ force: true });
    expect(await again).toBe('cut');
    expect(await ask(sleeper, 3000, '/', { headers })).toMatchObject({ status: 502 });
  });

  it('may speak TLS, and be told another name of their host', async () => {
    const odd = await make({ network: { httpsPorts: [3443], maskRequestHost: `inside.example:\${PORT}` } });
    const box = await boxOf(odd);
    const made = await execa('openssl', [
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=box', '-days', '2'],
      ...['-keyout', '-', '-out', '-'],
    ]);
    await box.files.write('/tmp/pair.pem', made.stdout);
    await serve(odd, 3443, '127.0.0.1', '/tmp/pair.pem');
    expect((await ask(odd, 3443, '/raw')).body).toMatch(/^host: inside\.example:3443$/im);
    await control('DELETE', `/sandboxes/${odd.id}`);
  });

  it('have the name that the client gives, in a browser and in curl', async () => {
    const client = await NpmClient.install('e2b', '2.51.0', stage.env());
    const host = await client.run(
      `import { Sandbox } from 'e2b';`,
      `return (await Sandbox.connect('${sandbox.id}')).getHost(3000);`,
    );
    expect(host).toBe(hostOf(sandbox, 3000));
    const { stdout } = await execa('curl', ['-sS', '--noproxy', '*', `http://${host}/`], { timeout: 30_000 });
    expect(stdout).toBe('hello from 127.0.0.1');
  });
});
