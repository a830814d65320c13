import { once } from 'node:events';
import { request } from 'node:https';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { connectRuntime } from '../../src/remote/index.js';
import { connectionsWithin } from '../../src/server/http/connections.js';
import { selfSigned, serverWithoutRuntime } from './support.js';

function dial(url: string): { socket: Socket; text: () => string; closed: Promise<unknown> } {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  return { socket, text: () => text, closed: once(socket, 'close') };
}

it('speaks TLS with the certificate it is given, and nothing else there', async () => {
  const tls = await selfSigned();
  const { url } = await serverWithoutRuntime({ tls });
  expect(url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const asking = request(`${url}/v1/config`, { ca: tls.cert }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    });
    asking.on('error', reject);
    asking.end();
  });
  expect(status).toBe(200);
  await expect(fetch(url.replace('https', 'http'))).rejects.toThrow();
  // A certificate that nobody vouches for is refused by our client.
  const runtime = connectRuntime({ url });
  onTestFinished(() => runtime.close());
  await expect(runtime.list()).rejects.toMatchObject({ code: 'upstream_unavailable' });
});

it('cuts a client that sends nothing, or a head that trickles', async () => {
  const { url } = await serverWithoutRuntime({ limits: { headersTimeoutMs: 300 } });
  const silent = dial(url);
  const trickling = dial(url);
  const head = `GET /v1/config HTTP/1.1\r\nhost: ${new URL(url).host}\r\nx-slow: `;
  const trickle = (async () => {
    for (let at = 0; !trickling.socket.destroyed; at += 1) {
      trickling.socket.write(head[at] ?? 'y');
      await delay(20);
    }
  })();
  const started = performance.now();
  await Promise.all([silent.closed, trickling.closed, trickle]);
  expect(performance.now() - started).toBeLessThan(5000);
  expect(trickling.text()).not.toContain('200 OK');
  expect((await fetch(`${url}/v1/config`)).status).toBe(200);
});

it('refuses a body of unknown length once it is over the limit', async () => {
  const { url } = await serverWithoutRuntime({ limits: { jsonBodyBytes: 10_000 } });
  const { socket, text, closed } = dial(url);
  socket.write(
    `POST /v1/boxes HTTP/1.1\r\nhost: ${new URL(url).host}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`,
  );
  const chunk = `1000\r\n${'x'.repeat(4096)}\r\n`;
  for (let i = 0; i < 4; i += 1) socket.write(chunk);
  await Promise.race([closed, once(socket, 'data')]);
  expect(text()).toMatch(/^HTTP\/1\.1 413 /);
  expect(text()).toContain('payload_too_large');
});

const ask = (url: string, path: string): string =>
  `GET ${path} HTTP/1.1\r\nhost: ${new URL(url).host}\r\n\r\n`;

/** Connects and asks for something public, so that the connection is kept and was not let in to anything. */
async function idle(url: string): Promise<ReturnType<typeof dial>> {
  const connection = dial(url);
  connection.socket.write(ask(url, '/healthz'));
  await once(connection.socket, 'data');
  expect(connection.text()).toContain('200 OK');
  return connection;
}

/** A server whose connections are fewer than the descriptors it may have, by far. */
const few = { connections: 8 };

it('lets nobody shut others out with idle connections: the oldest make room', async () => {
  const { url } = await serverWithoutRuntime({ limits: few });
  const held = [];
  for (let i = 0; i < few.connections; i += 1) held.push(await idle(url));
  const others = [await idle(url), await idle(url), await idle(url)];
  await Promise.all(held.slice(0, 3).map(({ closed }) => closed));
  expect(held.slice(3).filter(({ socket }) => socket.destroyed)).toEqual([]);
  expect(others.filter(({ socket }) => socket.destroyed)).toEqual([]);
});

it('bounds what one address holds without having been let in to anything', async () => {
  const { url } = await serverWithoutRuntime({ limits: { unprovenConnections: 3 } });
  const proven = dial(url);
  proven.socket.write(ask(url, '/v1/boxes'));
  await once(proven.socket, 'data');
  expect(proven.text()).toContain('503');
  const held = [];
  for (let i = 0; i < 6; i += 1) held.push(await idle(url));
  await Promise.all(held.slice(0, 3).map(({ closed }) => closed));
  expect(held.slice(3).filter(({ socket }) => socket.destroyed)).toEqual([]);
  expect(proven.socket.destroyed).toBe(false);
});

it('keeps an idle connection long for who was let in only', async () => {
  const { url } = await serverWithoutRuntime({ limits: { unprovenKeepAliveMs: 100 } });
  const proven = dial(url);
  proven.socket.write(ask(url, '/v1/boxes'));
  await once(proven.socket, 'data');
  const started = performance.now();
  await (await idle(url)).closed;
  expect(performance.now() - started).toBeLessThan(10_000);
  expect(proven.socket.destroyed).toBe(false);
});

it('ends no connection that is in use for a new one', async () => {
  const { url } = await serverWithoutRuntime({ limits: few });
  const half = `POST /v1/boxes HTTP/1.1\r\nhost: ${new URL(url).host}\r\ncontent-type: application/json\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n`;
  const held = Array.from({ length: few.connections }, () => dial(url));
  // The answer to an expectation says that the request is under way.
  for (const { socket } of held) {
    socket.write(half);
    await once(socket, 'data');
  }
  const late = dial(url);
  await late.closed;
  expect(late.text()).toBe('');
  expect(held.filter(({ socket }) => socket.destroyed)).toEqual([]);
});

it('leaves half of the descriptors to the engine', () => {
  expect(connectionsWithin(4096, 1_048_576)).toBe(4096);
  expect(connectionsWithin(4096, 4096)).toBe(2048);
  expect(connectionsWithin(4096, 400)).toBe(144);
  expect(connectionsWithin(4096, 200)).toBeGreaterThan(0);
  expect(connectionsWithin(4096, Number.POSITIVE_INFINITY)).toBe(4096);
});

it('bounds what one principal has under way', async () => {
  const { url } = await serverWithoutRuntime({ limits: { requestsUnderWay: 2 } });
  const half = `POST /v1/boxes HTTP/1.1\r\nhost: ${new URL(url).host}\r\ncontent-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n`;
  const [first, second] = [dial(url), dial(url)];
  for (const { socket } of [first, second]) {
    socket.write(half);
    await once(socket, 'data');
  }
  expect((await fetch(`${url}/v1/boxes`)).status).toBe(429);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  first.socket.write('{}');
  await once(first.socket, 'data');
  expect((await fetch(`${url}/v1/boxes`)).status).toBe(503);
});

it('answers what is no HTTP with 400, and goes on', async () => {
  const { url } = await serverWithoutRuntime();
  for (const garbage of [
    '\0\0\0\0\r\n\r\n',
    'GET /v1/config HTTP/9.9\r\n\r\n',
    `GET /${'x'.repeat(100_000)} HTTP/1.1\r\nhost: x\r\n\r\n`,
    'POST /v1/boxes HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    'GET /v1/config HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n',
  ]) {
    const { socket, text, closed } = dial(url);
    socket.write(garbage);
    await closed;
    expect(text()).toMatch(/^(HTTP\/1\.1 4\d\d |$)/);
  }
  expect((await fetch(`${url}/v1/config`)).status).toBe(200);
});

it('takes names in a path as names, whatever is in them', async () => {
  const { url } = await serverWithoutRuntime();
  const statuses: [string, number][] = [];
  for (const path of [
    '/v1/boxes/..%2f..%2fetc%2fpasswd',
    '/v1/boxes/%2e%2e',
    '/v1/boxes/a%00b',
    '/v1/boxes/a%3fforce=true',
    '/v1/boxes/%ff%fe',
    `/v1/boxes/${'x'.repeat(300)}`,
    '/v1/boxes/a?colour=red',
    '/v1/boxes/a/files?path=/x&path=/y',
    '/v1/boxes/a/files?path[]=/x',
    '/v1/boxes/a/files',
    '/v1/x/../boxes/a',
    '/v1/%2e%2e/boxes',
  ]) {
    const { socket, text } = dial(url);
    socket.write(`GET ${path} HTTP/1.1\r\nhost: ${new URL(url).host}\r\nconnection: close\r\n\r\n`);
    await once(socket, 'close');
    statuses.push([path, Number(text().slice(9, 12))]);
  }
  // 503 says that the runtime was asked for a box of that name.
  const reached = statuses.filter(([, status]) => status === 503).map(([path]) => path);
  expect(reached).toEqual([
    '/v1/boxes/..%2f..%2fetc%2fpasswd',
    '/v1/boxes/%2e%2e',
    '/v1/boxes/a%00b',
    '/v1/boxes/a%3fforce=true',
  ]);
  for (const [path, status] of statuses)
    expect([path, [400, 404, 503]]).toEqual([
      path,
      expect.toSatisfy((allowed: number[]) => allowed.includes(status)),
    ]);
});
