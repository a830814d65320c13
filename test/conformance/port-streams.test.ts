import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { Duplex, Readable, type Writable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box, PortConnection } from '../../src/api/index.js';
import { isCryoboxError } from '../../src/errors.js';
import { conformance, eventually } from './support.js';

/** What the program in the box does with a connection is told by its first line; port 7801 speaks HTTP. */
const program = `
import os, socket, socketserver, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Modes(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().decode().split()
        if not line: return
        mode, rest = line[0], line[1:]
        if mode == "echo":
            while chunk := self.rfile.read1(65536): self.wfile.write(chunk)
        elif mode == "count":
            while rest and not os.path.exists(rest[0]): time.sleep(0.02)
            got = 0
            while chunk := self.rfile.read1(65536): got += len(chunk)
            self.wfile.write(b"%d" % got)
        elif mode == "pour":
            for at in range(int(rest[0])):
                self.wfile.write(bytes([at % 251]) * 65536)
                open("/root/poured", "w").write(str(at + 1))
        elif mode == "early":
            self.wfile.write(b"enough")
        elif mode == "quiet":
            self.rfile.read()

class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 1
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-client", str(self.client_address[1]))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        super().server_bind()

threading.Thread(target=Server(("127.0.0.1", 7800), Modes).serve_forever, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", 7801), Http).serve_forever()
`;

const megabytes = randomBytes(3 * 1024 * 1024);
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const pieces = (count: number): Readable =>
  Readable.from(Array.from({ length: count }, () => Buffer.alloc(65_536)));

/** An agent of `http` whose sockets are connections to a port of a box, as users write one. */
class BoxAgent extends Agent {
  dialled = 0;
  readonly #box: Box;

  constructor(box: Box) {
    super({ keepAlive: true, maxSockets: 1 });
    this.#box = box;
  }

  override createConnection(
    _options: unknown,
    done?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    this.dialled += 1;
    this.#box.dial(7801, { allowHalfOpen: false }).then(
      (port) => done?.(null, port),
      (error: Error) => done?.(error, undefined as never),
    );
  }
}

async function post(agent: Agent, body: Buffer): Promise<{ client: unknown; body: Buffer }> {
  const asked: ClientRequest = request({
    agent,
    method: 'POST',
    path: '/',
    headers: { 'content-length': body.length },
  });
  asked.end(body);
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  return { client: answer.headers['x-client'], body: await buffer(answer) };
}

/** Writes until the stream says for a while that it is full; the bytes that went. */
async function fill(stream: Writable, limit: number): Promise<number> {
  for (let given = 65_536; given <= limit; given += 65_536) {
    if (stream.write(Buffer.alloc(65_536))) continue;
    const drained = once(stream, 'drain', { signal: AbortSignal.timeout(500) });
    if ((await drained.catch(() => 'full')) === 'full') return given;
  }
  return Number.POSITIVE_INFINITY;
}

conformance('a connection to a port as a stream of Node', (subject) => {
  let box: Box;
  const dial = async (mode: string): Promise<PortConnection> => {
    const port = await box.dial(7800);
    port.write(`${mode}\n`);
    return port;
  };

  beforeAll(async () => {
    box = await subject.runtime.create({ image: 'debian-python', detach: true });
    await box.files.write('/root/server.py', program);
    await box.startExec(['python3', '/root/server.py']);
    await box.waitForPort(7801);
    await box.waitForPort(7800);
  });
  afterAll(() => box.remove({ force: true }));

  it('carries requests of an agent that keeps its connections', async () => {
    const agent = new BoxAgent(box);
    const first = await post(agent, Buffer.from('one'));
    const second = await post(agent, megabytes);
    expect([agent.dialled, second.client, hashOf(second.body)]).toEqual([1, first.client, hashOf(megabytes)]);
    // The server ends what is idle for a second: the next request has a connection of its own.
    await expect.poll(() => Object.values(agent.freeSockets).flat().length, { timeout: 30_000 }).toBe(0);
    expect((await post(agent, Buffer.from('three'))).body.toString()).toBe('three');
    expect(agent.dialled).toBe(2);
    agent.destroy();
  });

  it('is a Duplex for pipelines, and each direction ends on its own', async () => {
    const port = await dial('echo');
    expect(port).toBeInstanceOf(Duplex);
    const [, back] = await Promise.all([pipeline(Readable.from([megabytes]), port), buffer(port)]);
    expect(hashOf(back)).toBe(hashOf(megabytes));
    const half = await dial('count');
    await pipeline(pieces(20), half);
    expect([half.writableFinished, await text(half)]).toEqual([true, String(20 * 65_536)]);
    expect(half.closed || (await once(half, 'close'))).toBeTruthy();
  });

  it('holds a writer back whose bytes are not read', async () => {
    const port = await dial('count /root/go');
    const given = await fill(port, 64 * 1024 * 1024);
    expect(given).toBeLessThan(16 * 1024 * 1024);
    await box.files.write('/root/go', '');
    port.end();
    expect(await text(port)).toBe(String(given));
  });

  it('holds a program back whose bytes are not read', async () => {
    const port = await dial('pour 320');
    await once(port, 'readable');
    const poured = async (): Promise<number> => Number(await box.files.read('/root/poured'));
    let before = -1;
    const standsStill = async (): Promise<boolean> => {
      const now = (await eventually(poured)) || 0;
      const same = now === before;
      before = now;
      return same;
    };
    await expect.poll(standsStill, { timeout: 30_000, interval: 300 }).toBe(true);
    expect(before).toBeLessThan(256);
    expect((await buffer(port)).length).toBe(320 * 65_536);
  });

  it('ends with the box’s direction when it may not be half open', async () => {
    const port = await box.dial(7800, { allowHalfOpen: false });
    port.resume();
    port.write('early\n');
    await once(port, 'close');
    expect([port.writableFinished, port.errored]).toEqual([true, null]);
  });

  it('gives the answer of a program that takes no more, and then fails', async () => {
    const port = await dial('early');
    const failed = once(port, 'error');
    const sending = pipeline(pieces(2_000), port).catch((error: unknown) => error);
    let answer = '';
    port.on('data', (chunk: Buffer) => {
      answer += chunk.toString();
    });
    const [error] = await failed;
    expect([answer, isCryoboxError(error, 'network_unavailable')]).toEqual(['enough', true]);
    expect(isCryoboxError(await sending)).toBe(true);
    const unread = await dial('early');
    expect(isCryoboxError(await pipeline(pieces(2_000), unread).catch((it: unknown) => it))).toBe(true);
  });

  it('tells that nothing comes, when asked', async () => {
    const port = await dial('quiet');
    port.setTimeout(50);
    await once(port, 'timeout');
    port.setTimeout(0).destroy();
    await once(port, 'close');
    await expect(port.input.write(Buffer.from('x'))).rejects.toMatchObject({ code: 'network_unavailable' });
  });

  it('fails by name when the box goes', async () => {
    const port = await dial('quiet');
    port.resume();
    const failed = once(port, 'error');
    await box.pause();
    const [error] = await failed;
    expect([isCryoboxError(error), error.code], String(error)).toEqual([true, 'invalid_state']);
  });
});
