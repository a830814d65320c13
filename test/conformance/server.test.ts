import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { Box } from '../../dist/api/index.js';
import { connectRuntime } from '../../dist/remote/index.js';
import { eventually, Stage } from './support.js';

const run = promisify(execFile);

interface Frames {
  readonly socket: WebSocket;
  readonly text: Record<string, unknown>[];
  readonly stdout: () => string;
  readonly pings: () => number;
  readonly closed: Promise<number>;
}

function open(url: string): Frames {
  const socket = new WebSocket(url.replace('http', 'ws'));
  const text: Record<string, unknown>[] = [];
  const output: Buffer[] = [];
  let pings = 0;
  socket.on('ping', () => {
    pings += 1;
  });
  socket.on('message', (data: Buffer, binary: boolean) => {
    if (!binary) text.push(JSON.parse(data.toString()) as Record<string, unknown>);
    else if (data[0] === 1) output.push(data.subarray(1));
  });
  const closed = new Promise<number>((resolve) => socket.once('close', resolve));
  socket.on('error', () => undefined);
  return { socket, text, stdout: () => Buffer.concat(output).toString(), pings: () => pings, closed };
}

describe('the server', () => {
  let stage: Stage;
  let box: Box;
  let boxUrl: string;
  const json = { 'content-type': 'application/json' };

  beforeAll(async () => {
    stage = await Stage.open();
    box = await stage.engine.runtime().create({ image: 'tiny', name: 'main', detach: true });
    boxUrl = `${stage.url}/v1/boxes/main`;
  });
  afterAll(async () => stage.close());

  async function post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${stage.url}/v1${path}`, {
      method: 'POST',
      headers: { ...json, ...headers },
      body: JSON.stringify(body),
    });
  }

  async function startExec(command: string, args: string[]): Promise<string> {
    const answer = await (await post('/boxes/main/exec', { command, args, tty: false })).json();
    return (answer as { execution_id: string }).execution_id;
  }

  it('does what docs/api.md shows with curl', async () => {
    const blocks = [...readFileSync('docs/api.md', 'utf8').matchAll(/```sh\n(.*?)```/gs)].map(
      ([, block]) => block ?? '',
    );
    expect(blocks.length).toBeGreaterThan(5);
    const outputs: string[] = [];
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-curl-'));
    for (const block of blocks) {
      const env = { ...process.env, URL: stage.url, IMAGE: 'tiny' };
      outputs.push((await run('sh', ['-ec', block], { env, cwd: directory, timeout: 30_000 })).stdout);
    }
    await rm(directory, { recursive: true });
    expect(JSON.parse(outputs[0] ?? '')).toMatchObject({ name: 'demo', status: 'running' });
    expect(outputs[3]).toBe('hello\n');
    expect(JSON.parse(outputs[4] ?? '')).toMatchObject({ exit_code: 0, stdout: 'hello\n' });
    const followed = (outputs[6] ?? '').split('\n').filter(Boolean);
    expect(JSON.parse(followed[0] ?? '')).toEqual({ bytes: 13, eof: true });
    expect(outputs[6]).toContain('to its stdin\\n');
    expect(JSON.parse(followed.at(-1) ?? '')).toMatchObject({ type: 'exit', exit_code: 0 });
    expect(JSON.parse(outputs[7] ?? '')).toMatchObject([{}, { status: 'completed' }]);
    expect(JSON.parse(outputs[8] ?? '')).toMatchObject({ status: 'stopped' });
    expect(outputs.at(-1)).toBe('');
  });

  it('pings at once, cuts frames, sends the exit last and lets one client in', async () => {
    const id = await startExec('sh', ['-c', 'head -c 300000 /dev/zero | tr "\\0" x; read line; exit 7']);
    const first = open(`${boxUrl}/executions/${id}/attach`);
    const sizes: number[] = [];
    first.socket.on('message', (data: Buffer, binary: boolean) => binary && sizes.push(data.length));
    await new Promise((resolve) => first.socket.once('ping', resolve));
    const second = open(`${boxUrl}/executions/${id}/attach`);
    const status = await new Promise((resolve) =>
      second.socket.once('unexpected-response', (_request, response) => resolve(response.statusCode)),
    );
    expect(status).toBe(409);
    first.socket.send(Buffer.from('go\n'));
    expect(await first.closed).toBe(1000);
    expect(first.stdout()).toBe('x'.repeat(300_000));
    expect(Math.max(...sizes)).toBeLessThanOrEqual(64 * 1024);
    expect(first.text.at(0)).toMatchObject({ type: 'attached', execution_id: id });
    expect(first.text.at(-1)).toMatchObject({ type: 'exit', exit_code: 7 });
  });

  it('refuses what is no message, and writing where only reading was asked for', async () => {
    for (const garbage of ['{', '{"type":"dance"}', '{"type":"resize","cols":0,"rows":1}']) {
      const id = await startExec('sleep', ['30']);
      const client = open(`${boxUrl}/executions/${id}/attach`);
      client.socket.once('open', () => client.socket.send(garbage));
      expect(await client.closed).toBe(1008);
      expect(client.text.at(-1)).toMatchObject({ type: 'error', code: 'invalid_argument' });
      await box.executions.kill(id);
    }
    const id = await startExec('sleep', ['30']);
    const reader = open(`${boxUrl}/executions/${id}/attach?stdin=false`);
    reader.socket.once('open', () => reader.socket.send(Buffer.from('x')));
    expect(await reader.closed).toBe(1008);
    await box.executions.kill(id);
  });

  it('keeps every byte for a client whose connection breaks', async () => {
    const id = await startExec('sh', ['-c', 'echo one; read line; echo two']);
    const first = open(`${boxUrl}/executions/${id}/attach`);
    await new Promise<void>((resolve) => first.socket.on('message', (_data, binary) => binary && resolve()));
    first.socket.terminate();
    await first.closed;
    // 409 until the server has noticed.
    const second = await eventually(async () => {
      const client = open(`${boxUrl}/executions/${id}/attach`);
      await once(client.socket, 'open');
      return client;
    });
    second.socket.send(Buffer.from('\n'));
    await second.closed;
    expect(first.stdout() + second.stdout()).toBe('one\ntwo\n');
  });

  it('lets go of a command within a second when its client is gone', async () => {
    const remote = connectRuntime({ url: stage.url });
    const execution = await (await remote.get('main'))?.startExec(['sleep', '30']);
    const id = execution?.id ?? '';
    expect((await box.executions.get(id))?.attached).toBe(true);
    await execution?.detach();
    const deadline = Date.now() + 1000;
    while ((await box.executions.get(id))?.attached) expect(Date.now()).toBeLessThan(deadline);
    await box.executions.kill(id);
    await remote.close();
  });

  it('gives the same box to the same Idempotency-Key', async () => {
    const headers = { 'idempotency-key': 'create-1' };
    const asked = { image: 'tiny', name: 'once' };
    const answers = await Promise.all([post('/boxes', asked, headers), post('/boxes', asked, headers)]);
    const boxes = (await Promise.all(answers.map((answer) => answer.json()))) as { box_id: string }[];
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
    expect(boxes[0]?.box_id).toBe(boxes[1]?.box_id);
    const lines = await post('/boxes', asked, { ...headers, accept: 'application/x-ndjson' });
    const last = JSON.parse((await lines.text()).trim().split('\n').at(-1) ?? '') as unknown;
    expect(last).toMatchObject({ type: 'result', result: { box_id: boxes[0]?.box_id } });
    expect((await post('/boxes', { ...asked, name: 'other' }, headers)).status).toBe(400);
    await stage.engine.runtime().remove('once', { force: true });
  });

  it('streams lines of progress and of events', async () => {
    const response = await post(
      '/boxes',
      { image: 'tiny', name: 'lines' },
      { accept: 'application/x-ndjson' },
    );
    const lines = (await response.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string });
    expect(lines.at(-1)).toMatchObject({ type: 'result', result: { name: 'lines' } });
    const stop = new AbortController();
    const events = await fetch(`${stage.url}/v1/events`, {
      headers: { accept: 'text/event-stream' },
      signal: stop.signal,
    });
    expect(events.headers.get('content-type')).toBe('text/event-stream');
    const reader = events.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    await stage.engine.runtime().remove('lines', { force: true });
    while (!text.includes('"removed"')) text += (await reader?.read())?.value ?? '';
    expect(text).toMatch(/^: alive\n\nid: run_[0-9a-z]+\.\d+\nevent: box\ndata: \{/);
    stop.abort();
  });

  it('measures', async () => {
    await fetch(boxUrl);
    await post('/boxes/main/stop', {});
    await post('/boxes/main/start', {});
    await post('/boxes/main/start', {});
    await post('/boxes/main/snapshots', { name: 'measured', memory: true });
    await post('/boxes/main/pause', {});
    await post('/boxes/main/resume', {});
    await post('/boxes/main/snapshots/measured/restore', { live: true });
    const forked = (await (await post('/boxes/main/fork', { count: 1 })).json()) as {
      forks: { box: { box_id: string } }[];
    };
    await stage.engine.runtime().remove(forked.forks[0]?.box.box_id ?? '', { force: true });
    const text = await (await fetch(`${stage.url}/metrics`)).text();
    const counted = (operation: string, stageName: string): string | undefined =>
      new RegExp(
        `^cryobox_stage_seconds_count\\{operation="${operation}",stage="${stageName}"\\} (\\d+)$`,
        'm',
      ).exec(text)?.[1];
    // A start that found the box running had no stages.
    expect(counted('startBox', 'total')).toBe('1');
    for (const operation of ['resumeBox', 'restoreSnapshot', 'forkBox']) {
      expect([operation, counted(operation, 'total')]).toEqual([operation, '1']);
    }
    expect(counted('createSnapshot', 'guest_pause')).toBe('1');
    expect(counted('stopBox', 'total')).toBeUndefined();
    expect(text).toMatch(
      /^cryobox_stage_seconds_bucket\{le="60",operation="startBox",stage="configure"\} 1$/m,
    );
    await box.snapshot.remove('measured');
    expect(text).toMatch(/^cryobox_request_seconds_bucket\{le="0.001",operation="getBox"\} \d+$/m);
    expect(text).toMatch(/^cryobox_requests_total\{operation="getBox",status="200"\} [1-9]/m);
    expect(text).toMatch(/^cryobox_boxes_running [1-9]/m);
  });
});
