import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { connectRuntime } from '../../src/remote/index.js';
import { serverWithoutRuntime, temporaryDirectory } from './support.js';

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
  const directory = await temporaryDirectory();
  const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  await promisify(execFile)('openssl', ['req', ...kind, '-keyout', key, '-out', cert, ...subject]);
  const tls = { cert: await readFile(cert), key: await readFile(key) };
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
  const head = 'GET /v1/config HTTP/1.1\r\nhost: x\r\nx-slow: ';
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
    'POST /v1/boxes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n',
  );
  const chunk = `1000\r\n${'x'.repeat(4096)}\r\n`;
  for (let i = 0; i < 4; i += 1) socket.write(chunk);
  await Promise.race([closed, once(socket, 'data')]);
  expect(text()).toMatch(/^HTTP\/1\.1 413 /);
  expect(text()).toContain('payload_too_large');
});

it('takes no more connections than it may', async () => {
  const { url } = await serverWithoutRuntime({ limits: { connections: 2 } });
  const held = [dial(url), dial(url)];
  await Promise.all(held.map(({ socket }) => once(socket, 'connect')));
  const third = dial(url);
  await third.closed;
  expect(third.text()).toBe('');
  held[0]?.socket.destroy();
  await held[0]?.closed;
  held[1]?.socket.write('GET /v1/config HTTP/1.1\r\nhost: x\r\n\r\n');
  await once(held[1]?.socket as Socket, 'data');
  expect(held[1]?.text()).toContain('200 OK');
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
    socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
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
