import { on, once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { routes } from '../../src/server/v1/index.js';
import type { ErrorEnvelope } from '../../src/wire/error.js';
import { serverWithoutRuntime } from './support.js';

async function post(url: string, body: unknown, headers: Record<string, string> = {}) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(url, {
    method: 'POST',
    body: text,
    headers: { 'content-type': 'application/json', ...headers },
  });
  return {
    status: response.status,
    headers: response.headers,
    error: ((await response.json()) as ErrorEnvelope).error,
  };
}

describe('requests', () => {
  it('may have parameters that only newer servers know, on routes that those have', async () => {
    const { url } = await serverWithoutRuntime();
    const known = [
      '/boxes?colour=red',
      '/boxes/b/files?path=/x&colour=red',
      '/images?colour=red',
      '/volumes?x=1',
    ];
    for (const path of known) expect([path, (await fetch(`${url}/v1${path}`)).status]).toEqual([path, 503]);
    const tunnel = await post(`${url}/v1/boxes/b/network/tunnel?port=1&colour=red`, {});
    expect(tunnel.status).toBe(503);
    for (const path of [
      '/boxes/b/files/stat?path=/x&colour=red',
      '/boxes/b/files/content?path=/x&colour=red',
    ]) {
      expect([path, (await fetch(`${url}/v1${path}`)).status]).toEqual([path, 400]);
    }
    // What is known is checked all the same.
    const bad = await fetch(`${url}/v1/boxes/b/files?path=/x&follow_symlinks=maybe&colour=red`);
    expect(bad.status).toBe(400);
  });

  it('are refused by the name of what is wrong', async () => {
    const { url } = await serverWithoutRuntime();
    const refused = async (path: string, body: unknown, message: string): Promise<void> => {
      const { status, error } = await post(`${url}/v1${path}`, body);
      expect({ status, code: error.code, type: error.type }).toEqual({
        status: 400,
        code: 'invalid_argument',
        type: 'InvalidArgumentError',
      });
      expect(error.message).toContain(message);
    };
    await refused('/boxes', { image: 'x', colour: 'red' }, 'Unknown field "colour"');
    await refused(
      '/boxes',
      { image: 'x', network: { outbound: { mode: 'enabled', via: 1 } } },
      'Unknown field "network.outbound.via"',
    );
    await refused('/boxes', { image: 'x', cpus: 1.5 }, '"cpus"');
    await refused('/boxes', { image: 'x', cpus: '2' }, '"cpus"');
    await refused('/boxes', { image: 'x', memory_mib: 127 }, '"memory_mib"');
    await refused('/boxes', { image: 'x', name: 'a/b' }, '"name"');
    await refused('/boxes', { image: 'x', template: 'y' }, 'exactly one of "image" and "template"');
    await refused('/boxes', {}, 'exactly one of "image" and "template"');
    await refused('/boxes', { image: 'x', secrets: [{ name: 'k', value: 'v' }] }, 'hosts');
    await refused('/boxes', { image: 'x', rootfs_path: '/' }, '"rootfs_path"');
    await refused('/boxes', { image: 'x', network: { mode: 'enabled', outbound: {} } }, 'should not mix');
    await refused(
      '/boxes',
      { image: 'x', network: { allow_net: ['a.test'], outbound: {} } },
      'should not mix',
    );
    await refused('/boxes', { image: 'x', network: { outbound: { allow_net: 'a.test' } } }, 'allow_net');
    await refused(
      '/boxes',
      { image: 'x', network: { inbound: { allow_net: ['a.com'] } } },
      'address lists are not supported',
    );
    await refused('/boxes', '{"image":', 'JSON');
    await refused('/boxes', '[1]', 'body');
    await refused('/boxes/b/exec', { args: ['x'] }, '"command"');
    await refused('/boxes/b/exec', { command: 'x', timeout_seconds: -1 }, '"timeout_seconds"');
    await refused(
      '/boxes/b/executions/e/signal',
      { signal: 9 },
      'should be one of 1, 2, 3, 6, 10, 12, 15, 28',
    );
    await refused('/boxes/b/pause', { now: true }, 'Unknown field "now"');
    await refused('/boxes/b/fork', { count: 0 }, '"count"');
    await refused('/boxes/b/fork', { count: 101 }, '"count"');
    await refused('/boxes/b/start?colour=red', {}, 'Unknown field "colour"');
    await refused('/boxes/b/network/tunnel?port=70000', {}, '"port"');
    await refused('/boxes', { image: 'x', env: { A: 1 } }, '"env.A"');
    await refused('/boxes', '{"image":"x","env":{"__proto__":{"a":"b"}}}', '');
  });

  it('of the template routes have their own name for a bad request', async () => {
    const { url } = await serverWithoutRuntime();
    expect((await post(`${url}/v1/snapshots`, {})).error).toMatchObject({
      code: 'invalid_request',
      reason: 'invalid_argument',
    });
    expect((await post(`${url}/v1/snapshots`, '{')).error.code).toBe('invalid_request');
  });

  it('with the shape of v1 reach the runtime', async () => {
    const { url } = await serverWithoutRuntime();
    const sent = [
      [
        '/boxes',
        {
          name: 'b',
          image: 'x',
          network: { outbound: { mode: 'enabled' }, inbound: { mode: 'enabled' } },
          detach: false,
        },
      ],
      ['/boxes', { image: 'x', network: { mode: 'disabled' } }],
      [
        '/boxes/b/exec',
        {
          command: 'sh',
          args: ['-c', 'x'],
          env: { K: 'V' },
          timeout_seconds: 2.5,
          working_dir: '/w',
          tty: false,
        },
      ],
      ['/acme/boxes/b/clone', {}],
      ['/boxes/b/executions/e/signal', { signal: 2 }],
      ['/boxes/b/executions/e/signal', { signal: 'SIGKILL' }],
    ] as const;
    for (const [path, body] of sent) expect((await post(`${url}/v1${path}`, body)).status).toBe(503);
    const bodiless = await fetch(`${url}/v1/boxes/b/start`, { method: 'POST' });
    expect(bodiless.status).toBe(503);
    const empty = await fetch(`${url}/v1/boxes/b/stop`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
    });
    expect(empty.status).toBe(503);
  });

  it('larger than the limit are refused with 413', async () => {
    const { url } = await serverWithoutRuntime({ limits: { jsonBodyBytes: 1000 } });
    const { status, error } = await post(`${url}/v1/boxes`, { image: 'x'.repeat(2000) });
    expect({ status, code: error.code }).toEqual({ status: 413, code: 'payload_too_large' });
  });

  it('carry a request id there and back', async () => {
    const { url } = await serverWithoutRuntime();
    const given = await post(`${url}/v1/boxes`, {}, { 'x-request-id': 'trace-1' });
    expect([given.headers.get('x-request-id'), given.error.request_id]).toEqual(['trace-1', 'trace-1']);
    const minted = await post(`${url}/v1/boxes`, {}, { 'x-request-id': 'no spaces please' });
    expect(minted.error.request_id).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('to paths and methods that do not exist are 404', async () => {
    const { url } = await serverWithoutRuntime();
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/v1/nothing'],
      ['PATCH', '/v1/boxes'],
      ['GET', '/v1/boxes/../../etc'],
    ] as const) {
      const response = await fetch(url + path, { method });
      expect(response.status).toBe(404);
      expect(((await response.json()) as ErrorEnvelope).error.code).toBe('not_found');
    }
  });

  it('beyond the rate are 429 with a time to wait', async () => {
    const { url } = await serverWithoutRuntime({ limits: { requestsPerSecond: 1, requestBurst: 2 } });
    const statuses = [];
    for (let i = 0; i < 3; i += 1) statuses.push((await fetch(`${url}/v1/config`)).status);
    expect(statuses).toEqual([200, 200, 429]);
  });

  it('for its health are never among them, however many there are', async () => {
    const { url } = await serverWithoutRuntime({ limits: { requestsPerSecond: 1, requestBurst: 1 } });
    const statuses = [];
    for (let i = 0; i < 4; i += 1) statuses.push((await fetch(`${url}/v1/config`)).status);
    for (let i = 0; i < 4; i += 1) statuses.push((await fetch(`${url}/healthz`)).status);
    expect(statuses).toEqual([200, 429, 429, 429, 200, 200, 200, 200]);
  });

  it('whose head or body trickles in are cut', async () => {
    const { url } = await serverWithoutRuntime({ limits: { jsonBodyTimeoutMs: 100 } });
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.write(
      `POST /v1/boxes HTTP/1.1\r\nhost: ${new URL(url).host}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`,
    );
    const started = performance.now();
    await new Promise<void>((resolve) => {
      socket.on('close', () => resolve());
      socket.on('error', () => undefined);
      socket.resume();
    });
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('that were answered before their bodies came leave their connection to the next, once these have come', async () => {
    const authenticator = { authenticate: async () => null };
    const { url } = await serverWithoutRuntime({ authenticator, limits: { unreadBodyMs: 100 } });
    const { host, port } = new URL(url);
    const begin = (whole: number): string =>
      `POST /v1/boxes HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: ${whole}\r\n\r\n{`;
    const said = async (socket: Socket, status: number): Promise<void> => {
      for await (const [chunk] of on(socket, 'data', { close: ['close'] }))
        if (String(chunk).startsWith(`HTTP/1.1 ${status}`)) return;
      throw new Error('the connection was cut');
    };
    const whole = connect(Number(port), '127.0.0.1');
    whole.write(begin(2));
    await said(whole, 401);
    whole.write('}');
    // Longer than a body may be awaited.
    await delay(400);
    whole.write(`GET /healthz HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
    await said(whole, 200);
    whole.destroy();
    const half = connect(Number(port), '127.0.0.1');
    half.on('error', () => undefined);
    half.write(begin(1000));
    await said(half, 401);
    await once(half.resume(), 'close');
  });

  it('for a WebSocket without an upgrade, and upgrades elsewhere, are refused', async () => {
    const { url } = await serverWithoutRuntime();
    expect((await fetch(`${url}/v1/boxes/b/exec`)).status).toBe(400);
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const request = httpRequest(`${url}/v1/boxes/b/executions/e/attach`, {
        headers: {
          connection: 'Upgrade',
          upgrade: 'websocket',
          'sec-websocket-version': '13',
          'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        },
      });
      request.on('response', (response) => resolve(response.statusCode));
      request.on('upgrade', () => reject(new Error('it was upgraded')));
      request.on('error', reject);
      request.end();
    });
    expect(status).toBe(503);
  });
});

describe('keys over TCP', () => {
  const principal = { id: 'k', tenant: 'acme', scopes: ['box:read' as const], expiresAt: null };
  const authenticator = { authenticate: async (token: string) => (token === 'good' ? principal : null) };

  it('are needed everywhere but on the public routes', async () => {
    const { url } = await serverWithoutRuntime({ authenticator });
    for (const route of routes) {
      if (route.method === 'HEAD') continue;
      const path = route.path.replaceAll(/:\w+/g, 'x');
      const response = await fetch(`${url}${route.root ? '' : '/v1'}${path}`, { method: route.method });
      expect([route.operation, response.status]).toEqual([
        route.operation,
        route.scope === 'public' ? 200 : 401,
      ]);
    }
  });

  it('must have the scope and the prefix', async () => {
    const { url } = await serverWithoutRuntime({ authenticator });
    const headers = { authorization: 'Bearer good' };
    const statusOf = async (path: string, method = 'GET') =>
      (await fetch(`${url}/v1${path}`, { method, headers })).status;
    expect(await statusOf('/boxes')).toBe(503);
    expect(await statusOf('/acme/boxes')).toBe(503);
    expect(await statusOf('/other/boxes')).toBe(403);
    expect(await statusOf('/boxes/b', 'DELETE')).toBe(403);
    expect(await statusOf('/gc', 'POST')).toBe(403);
  });

  it('are needed to listen for other hosts', async () => {
    const { server } = await serverWithoutRuntime();
    await expect(server.listen({ host: '0.0.0.0', port: 0 })).rejects.toMatchObject({ code: 'config_error' });
  });
});
