import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { E2bStage, keys } from './stage.js';

interface Made {
  readonly sandboxID: string;
  readonly envdAccessToken: string;
}

interface Envelope {
  readonly flags?: number;
  /** What it says it holds. @default what it holds */
  readonly length?: number;
  readonly content: string;
}

const start = { process: { cmd: '/bin/bash', args: ['-c', 'echo started'] } };

/** A message of a stream (Connect protocol, "Streaming RPCs"): flags, length, content. */
function envelope({ flags = 0, length, content }: Envelope): Buffer {
  const bytes = Buffer.from(content);
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(length ?? bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** The code of the error that ends a stream's answer; undefined when it ends well. */
function streamError(answer: Buffer): string | undefined {
  let at = 0;
  while (at + 5 <= answer.length) {
    const end = at + 5 + answer.readUInt32BE(at + 1);
    if ((answer.readUInt8(at) & 2) === 2) {
      return (JSON.parse(answer.toString('utf8', at + 5, end)) as { error?: { code: string } }).error?.code;
    }
    at = end;
  }
  return 'no end';
}

describe('what no client of E2B sends', () => {
  let stage: E2bStage;
  let made: Made;
  let second: Made;

  const ask = async (method: string, path: string, body?: unknown, key: string | null = keys.owner) => {
    const answer = await fetch(`${stage.url}${path}`, {
      method,
      headers: { ...(key === null ? {} : { 'x-api-key': key }), 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    return { status: answer.status, text, json: text.startsWith('{') ? JSON.parse(text) : text };
  };
  const headersOf = ({ sandboxID, envdAccessToken }: Made = made) => ({
    'e2b-sandbox-id': sandboxID,
    'x-access-token': envdAccessToken,
  });
  const inside = async (path: string, body: string | Buffer, type: string, of: Made = made) => {
    const headers = { ...headersOf(of), 'content-type': type, 'connect-protocol-version': '1' };
    const asked = request(`${stage.url}${path}`, { method: 'POST', headers });
    // A server that has refused a body resets what is still sent of it.
    asked.on('error', () => undefined);
    asked.end(body);
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    return { status: answer.statusCode, body: await buffer(answer) };
  };
  const call = async (method: string, message: unknown) => {
    const { status, body } = await inside(`/${method}`, JSON.stringify(message), 'application/json');
    return { status, json: JSON.parse(body.toString()) as Record<string, unknown> };
  };
  const startWith = (body: Buffer) => inside('/process.Process/Start', body, 'application/connect+json');
  /** A request whose client goes away after some of its body was sent. */
  const leave = async (path: string, headers: Record<string, string>, sent: Buffer, length: number) => {
    const { hostname, port } = new URL(stage.url);
    const socket = connect(Number(port), hostname);
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    const lines = Object.entries({ host: 'x', ...headers, 'content-length': String(length) });
    socket.write(`POST ${path} HTTP/1.1\r\n${lines.map((line) => line.join(': ')).join('\r\n')}\r\n\r\n`);
    await new Promise<void>((resolve) => socket.write(sent, () => resolve()));
    socket.destroy();
    await once(socket, 'close');
  };
  const works = async () => {
    const answer = await startWith(envelope({ content: JSON.stringify(start) }));
    expect(answer.status).toBe(200);
    expect(answer.body.toString()).toContain(Buffer.from('started\n').toString('base64'));
    expect(streamError(answer.body)).toBeUndefined();
  };

  beforeAll(async () => {
    stage = await E2bStage.open();
    // Without a timeout a sandbox ends after 15 s, and a busy host takes longer for all of this.
    const wanted = { templateID: 'base', timeout: 600 };
    const create = async () => (await ask('POST', '/v2/sandboxes', wanted)).json as Made;
    [made, second] = [await create(), await create()];
  });
  afterAll(() => stage.close());

  it('keys that are missing, wrong, or another tenant’s open no route of a sandbox', async () => {
    const path = `/sandboxes/${made.sandboxID}`;
    const routes = [
      ['GET', path],
      ['DELETE', path],
      ['POST', `${path}/connect`, {}],
      ['POST', `/v2${path}/connect`, {}],
      ['POST', `${path}/resume`, {}],
      ['POST', `${path}/timeout`, { timeout: 0 }],
      ['POST', `${path}/refreshes`, {}],
      ['POST', `${path}/pause`, {}],
      ['PUT', `${path}/network`, {}],
      ['POST', `${path}/snapshots`, {}],
      ['POST', `${path}/fork`, {}],
      ['GET', `${path}/metrics`],
      ['GET', `${path}/logs`],
    ] as const;
    for (const [method, route, body] of routes) {
      for (const key of [
        null,
        '',
        'e2b_',
        keys.owner.slice(0, -1),
        `${keys.owner}0`,
        `Bearer ${keys.owner}`,
      ]) {
        const refused = await ask(method, route, body, key);
        expect(refused, `${method} ${route}`).toMatchObject({ status: 401, json: { code: 401 } });
      }
      const foreign = await ask(method, route, body, keys.other);
      expect(foreign, `${method} ${route}`).toMatchObject({ status: 404, json: { code: 404 } });
    }
    expect(await ask('GET', path)).toMatchObject({ status: 200, json: { state: 'running' } });
  });

  it('tokens of another sandbox open none of its calls', async () => {
    const mixed = { sandboxID: made.sandboxID, envdAccessToken: second.envdAccessToken };
    for (const method of ['Start', 'Connect', 'List', 'SendInput', 'StreamInput']) {
      const type = ['Start', 'Connect', 'StreamInput'].includes(method)
        ? 'application/connect+json'
        : 'application/json';
      expect((await inside(`/process.Process/${method}`, '{}', type, mixed)).status).toBe(401);
    }
    const file = await inside('/files?path=/tmp/x', 'text', 'application/octet-stream', mixed);
    expect(file.status).toBe(401);
  });

  it('ids with tricks lead nowhere', async () => {
    const { sandboxID, envdAccessToken } = made;
    const tricks = [
      sandboxID.slice(0, -1),
      `${sandboxID}0`,
      `../${sandboxID}`,
      `${sandboxID}/../${second.sandboxID}`,
      `${sandboxID}%00`,
      `${sandboxID}?x=`,
      `${sandboxID},${second.sandboxID}`,
      `box_${sandboxID.slice(1)}`,
      sandboxID.toUpperCase(),
    ];
    for (const trick of tricks) {
      const { status } = await inside('/process.Process/List', '{}', 'application/json', {
        sandboxID: trick,
        envdAccessToken,
      });
      expect(status, trick).toBe(502);
      const answer = await ask('GET', `/sandboxes/${encodeURIComponent(trick)}`);
      expect([400, 404], trick).toContain(answer.status);
    }
  });

  it('envelopes that are too large, or lie about their length, are refused by name', async () => {
    const content = JSON.stringify(start);
    const bad: readonly (readonly [string, Buffer])[] = [
      ['nothing', Buffer.alloc(0)],
      ['half a head', Buffer.from([0, 0])],
      ['too short', envelope({ content, length: 3 })],
      ['too long', envelope({ content, length: content.length + 100 })],
      ['four gigabytes', envelope({ content, length: 0xff_ff_ff_ff })],
      ['packed by nothing', envelope({ content, flags: 1 })],
      ['no JSON', envelope({ content: 'text' })],
      ['JSON of another type', envelope({ content: '[]' })],
      ['a wrong type', envelope({ content: '{"process":{"cmd":7}}' })],
      ['no command', envelope({ content: '{}' })],
      ['twice', Buffer.concat([envelope({ content }), envelope({ content })])],
      ['more after it', Buffer.concat([envelope({ content }), Buffer.from([0, 0])])],
    ];
    for (const [what, body] of bad) {
      const answer = await startWith(body);
      expect(answer.status, what).toBe(200);
      expect(['invalid_argument', 'resource_exhausted', 'internal', 'unimplemented'], what).toContain(
        streamError(answer.body),
      );
    }
    const huge = Buffer.alloc(17 * 1024 * 1024, 0x20);
    const unary = await inside('/process.Process/List', huge, 'application/json');
    expect([413, 429]).toContain(unary.status);
    expect((await startWith(envelope({ content: huge.toString() }))).status).toBe(200);
    await works();
  });

  it('bodies that are no messages are refused', async () => {
    const noise = Buffer.from([255, 254, 0, 1]);
    expect((await inside('/filesystem.Filesystem/Stat', noise, 'application/json')).status).toBe(400);
    await works();
  });

  it('requests that are cut in the middle start and leave nothing', async () => {
    const marked = JSON.stringify({ process: { cmd: '/bin/bash', args: ['-c', 'touch /tmp/was-begun'] } });
    const stream = { ...headersOf(), 'content-type': 'application/connect+json' };
    const whole = envelope({ content: marked });
    for (const sent of [0, 3, 5, 20, whole.length - 1]) {
      await leave('/process.Process/Start', stream, whole.subarray(0, sent), whole.length);
    }
    const upload = { ...headersOf(), 'content-type': 'application/octet-stream' };
    await leave('/files?path=/tmp/cut', upload, Buffer.alloc(500_000), 1_000_000);
    const form = { ...headersOf(), 'content-type': 'multipart/form-data; boundary=b' };
    const part =
      '--b\r\nContent-Disposition: form-data; name="file"; filename="/tmp/cut-form"\r\n\r\nsome content';
    await leave('/files?username=user', form, Buffer.from(part), 1_000_000);
    const json = { 'x-api-key': keys.owner, 'content-type': 'application/json' };
    await leave('/v2/sandboxes', json, Buffer.from('{"templateID":"ba'), 100);
    await works();
    for (const path of ['/tmp/was-begun', '/tmp/cut', '/tmp/cut-form']) {
      expect((await call('filesystem.Filesystem/Stat', { path })).status, path).toBe(404);
    }
    // Nothing of an upload that broke off stays beside it either.
    const { json: listed } = await call('filesystem.Filesystem/ListDir', { path: '/tmp' });
    expect(JSON.stringify(listed)).not.toContain('cut');
    expect(stage.engine.runningBoxes()).toHaveLength(2);
  });

  it('clients that go away during a call leave nothing half made', async () => {
    const runtime = stage.engine.runtime();
    const path = `/sandboxes/${made.sandboxID}`;
    const headers = { 'x-api-key': keys.owner, 'content-type': 'application/json' };
    const boxes = async () => (await runtime.list()).length;
    for (const [route, body] of [
      ['/v2/sandboxes', '{"templateID":"base"}'],
      [`${path}/fork`, '{"count":2}'],
      [`${path}/snapshots`, '{"name":"left"}'],
    ] as const) {
      await leave(route, headers, Buffer.from(body), body.length);
      // The next call on the sandbox waits for what is under way.
      expect((await ask('POST', `${path}/refreshes`, {})).status).toBe(204);
    }
    await expect.poll(boxes, { timeout: 20_000 }).toBe(2);
    for (const { name } of await runtime.templates.list()) await runtime.templates.remove(name);
    const sleep = { process: { cmd: '/bin/sleep', args: ['1000'] } };
    const content = envelope({ content: JSON.stringify(sleep) });
    const asked = request(`${stage.url}/process.Process/Start`, {
      method: 'POST',
      headers: { ...headersOf(), 'content-type': 'application/connect+json' },
    });
    asked.on('error', () => undefined);
    asked.end(content);
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    await once(answer, 'data');
    asked.destroy();
    // Who disconnects does not kill: others find it and end it.
    const { json } = await call('process.Process/List', {});
    const [{ pid }] = json['processes'] as [{ pid: number }];
    const signal = { process: { pid }, signal: 'SIGNAL_SIGKILL' };
    expect((await call('process.Process/SendSignal', signal)).status).toBe(200);
    await works();
  });

  it('a flood in a watched directory is bounded, told, and hurts no other watch', async () => {
    const command = async (line: string) => {
      const process = { cmd: '/bin/bash', args: ['-c', line] };
      const answer = await startWith(envelope({ content: JSON.stringify({ process }) }));
      expect(streamError(answer.body)).toBeUndefined();
    };
    await command('mkdir -p /home/user/flood /home/user/calm');
    const watch = async (path: string) =>
      (await call('filesystem.Filesystem/CreateWatcher', { path, recursive: true })).json['watcherId'];
    const flooded = await watch('flood');
    const calm = await watch('calm');
    const write = 'import os\nfor i in range(10000): open(f"/home/user/flood/{i}", "w").write("x")';
    await command(`python3 -c '${write}'; touch calm/one`);
    let count = 0;
    let ended: unknown;
    const read = async (watcherId: unknown) => {
      const { status, json } = await call('filesystem.Filesystem/GetWatcherEvents', { watcherId });
      return { status, code: json['code'], events: (json['events'] ?? []) as { name: string }[] };
    };
    await expect
      .poll(
        async () => {
          const { code, events } = await read(flooded);
          count += events.length;
          ended = code;
          return code ?? count >= 20_000;
        },
        { timeout: 30_000 },
      )
      .toBeTruthy();
    // Either all of them came, or what was lost is told.
    expect([undefined, 'resource_exhausted']).toContain(ended);
    // As many as wait for a client, and the one that was too many.
    expect(count).toBeLessThanOrEqual(20_001);
    const seen: string[] = [];
    await expect
      .poll(async () => {
        seen.push(...(await read(calm)).events.map(({ name }) => name));
        return seen;
      })
      .toContain('one');
    const again = await watch('flood');
    await command('touch flood/last');
    await expect
      .poll(async () => (await read(again)).events.map(({ name }) => name), { timeout: 10_000 })
      .toContain('last');
    for (const watcherId of [flooded, calm, again]) {
      expect((await call('filesystem.Filesystem/RemoveWatcher', { watcherId })).status).toBe(200);
    }
  });
});
