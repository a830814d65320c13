import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { createServer } from '../../dist/server/index.js';
import type { Box } from '../../src/api/index.js';
import { selfSigned } from '../server/support.js';
import { conformance, Stage } from './support.js';

/**
 * Servers of half a conversation. `ask`: reads all until the client has ended, then answers. `tell`: says all and ends
 * its half, then reads on and writes what came to a file. `early`: answers and closes while the client still sends.
 */
const servers = `
import socket, sys
kind, port = sys.argv[1], int(sys.argv[2])
listener = socket.create_server(("127.0.0.1", port))
open(f"/root/ready-{port}", "w").close()
connection, _ = listener.accept()
def rest():
    parts = []
    while chunk := connection.recv(65536): parts.append(chunk)
    return b"".join(parts)
if kind == "ask":
    connection.sendall(f"got {len(rest())}\\n".encode())
elif kind == "tell":
    connection.sendall(b"x" * 300000)
    connection.shutdown(socket.SHUT_WR)
    open(f"/root/got-{port}", "w").write(str(len(rest())))
    open(f"/root/done-{port}", "w").close()
else:
    connection.recv(10)
    connection.sendall(b"enough\\n")
connection.close()
`;

const sent = Buffer.alloc(1_000_000, 'y');

async function serve(box: Box, kind: 'ask' | 'tell' | 'early', port: number): Promise<void> {
  await box.files.write('/root/server.py', servers);
  await box.startExec(['python3', '/root/server.py', kind, String(port)]);
  const wait = `until [ -e /root/ready-${port} ]; do sleep 0.02; done`;
  await box.exec(['sh', '-c', wait], { timeoutMs: 30_000 });
}

/** What the server had got when it had got all. */
async function gotBy(box: Box, port: number): Promise<string> {
  const wait = `until [ -e /root/done-${port} ]; do sleep 0.02; done`;
  expect(await box.exec(['sh', '-c', wait], { timeoutMs: 30_000 })).toMatchObject({ exitCode: 0 });
  return (await box.files.read(`/root/got-${port}`)).toString();
}

conformance('half of a connection', (subject) => {
  let box: Box;
  beforeAll(async () => {
    box = await subject.runtime.create({ image: 'debian-python', detach: true });
  });
  afterAll(() => box.remove({ force: true }));

  it('may be ended by the caller before the answer comes', async () => {
    await serve(box, 'ask', 7000);
    const { input, output, close } = await box.dial(7000);
    await input.write(sent);
    await input.end();
    await input.end();
    const chunks: Uint8Array[] = [];
    for await (const chunk of output) chunks.push(chunk);
    expect(Buffer.concat(chunks).toString()).toBe('got 1000000\n');
    await close();
  });

  it('may be ended by the box while the caller goes on', async () => {
    await serve(box, 'tell', 7001);
    const { input, output, close } = await box.dial(7001);
    let bytes = 0;
    for await (const chunk of output) bytes += chunk.length;
    expect(bytes).toBe(300_000);
    await input.write(sent);
    await input.end();
    expect(await gotBy(box, 7001)).toBe('1000000');
    await close();
  });
});

describe('half of a tunnel or WebSocket', () => {
  let stage: Stage;
  let box: Box;
  let tls: { server: ReturnType<typeof createServer>; url: string };
  let port = 7100;

  beforeAll(async () => {
    stage = await Stage.open();
    box = await stage.engine.runtime().create({ image: 'debian-python', name: 'half', detach: true });
    const server = createServer({
      runtimeFor: (tenant) => stage.engine.runtime(tenant),
      authenticator: null,
      tls: await selfSigned(),
      tunnelDomain: 'boxes.test',
    });
    tls = { server, url: (await server.listen({ port: 0 })).url };
  });
  afterAll(async () => {
    await tls.server.close();
    await stage.close();
  });

  /** A tunnel by a listener of its own. */
  async function plain(to: number): Promise<Socket> {
    const answer = await fetch(`${stage.url}/v1/boxes/half/network/tunnel?port=${to}`, { method: 'POST' });
    const { uri } = (await answer.json()) as { uri: string };
    const { hostname, port: listening } = new URL(uri);
    return await connected(connect({ host: hostname, port: Number(listening), allowHalfOpen: true }), uri);
  }

  /** A tunnel by its name, on the port of a server that speaks TLS. */
  async function named(to: number): Promise<TLSSocket> {
    const servername = 'localhost';
    const address = { host: '127.0.0.1', port: Number(new URL(tls.url).port) };
    const options = { ...address, servername, rejectUnauthorized: false, allowHalfOpen: true };
    const asking = connectTls(options);
    asking.end(
      `POST /v1/boxes/half/network/tunnel?port=${to} HTTP/1.1\r\nhost: localhost:${address.port}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`,
    );
    const uri = /"uri":"([^"]+)"/.exec(await text(asking))?.[1] ?? '';
    return await connected(connectTls(options), uri);
  }

  async function connected<S extends Socket>(socket: S, uri: string): Promise<S> {
    // The secret is a part of the authority: of its host name, or its user information.
    const { username, host } = new URL(uri);
    const authority = username === '' ? host : `${username}@${host}`;
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
    await once(socket, 'readable');
    let head = '';
    while (!head.endsWith('\r\n\r\n')) {
      const byte = socket.read(1) as Buffer | null;
      if (byte === null) await once(socket, 'readable');
      else head += byte.toString('latin1');
    }
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    return socket;
  }

  describe.each([
    ['a tunnel', plain],
    ['a tunnel over TLS', named],
  ] as const)('%s', (_name, open) => {
    it('gives the answer to a client that has ended its half', async () => {
      port += 1;
      await serve(box, 'ask', port);
      const socket = await open(port);
      socket.end(sent);
      expect(await text(socket)).toBe('got 1000000\n');
    });

    it('takes what a client sends after the box has ended its half', async () => {
      port += 1;
      await serve(box, 'tell', port);
      const socket = await open(port);
      expect((await text(socket.iterator({ destroyOnReturn: false }))).length).toBe(300_000);
      socket.end(sent);
      expect(await gotBy(box, port)).toBe('1000000');
      socket.destroy();
    });

    it('gives the answer of a box that takes no more', async () => {
      port += 1;
      await serve(box, 'early', port);
      const socket = await open(port);
      socket.on('error', () => undefined);
      socket.write(sent.subarray(0, 10));
      const [answer] = (await once(socket, 'data')) as [Buffer];
      expect(answer.toString()).toBe('enough\n');
      socket.destroy();
    });
  });

  it('ends a WebSocket in order once both have ended', async () => {
    port += 1;
    await serve(box, 'ask', port);
    const socket = new WebSocket(`${stage.url.replace('http', 'ws')}/v1/boxes/half/ports/${port}`);
    const messages: string[] = [];
    socket.on('message', (data: Buffer) => messages.push(data.toString()));
    await once(socket, 'open');
    socket.send(sent);
    socket.send('{"type":"eof"}');
    const [code] = (await once(socket, 'close')) as [number];
    expect([code, messages]).toEqual([1000, ['got 1000000\n', '{"type":"eof"}']]);
  });

  it('of a WebSocket takes what comes after the box has ended its half', async () => {
    port += 1;
    await serve(box, 'tell', port);
    const socket = new WebSocket(`${stage.url.replace('http', 'ws')}/v1/boxes/half/ports/${port}`);
    const ended = new Promise<void>((resolve) => {
      socket.on('message', (_data: Buffer, binary: boolean) => {
        if (!binary) resolve();
      });
    });
    await ended;
    socket.send(sent);
    socket.send('{"type":"eof"}');
    const [code] = (await once(socket, 'close')) as [number];
    expect([code, await gotBy(box, port)]).toEqual([1000, '1000000']);
  });
});
