import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AgentConnection } from '../../src/guest/connection.js';
import { encodeFrame, magic } from '../../src/guest/frames.js';
import { AgentClient } from '../../src/guest/index.js';
import { HostAgent } from './host-agent.js';

/** Deterministic bytes: the fuzz cases can be repeated. */
function rubbish(seed: number, length: number): Buffer {
  let state = seed;
  return Buffer.from(
    Array.from({ length }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    }),
  );
}

describe('the connection to an agent', () => {
  let agent: HostAgent;

  beforeEach(async () => {
    agent = await HostAgent.start();
  });
  afterEach(() => agent.stop());

  it('shakes hands and refuses another protocol', async () => {
    const client = await agent.connect();
    expect(client.hello).toMatchObject({
      protocol: 1,
      state: 'ready',
      run: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    client.close();
    const connection = await AgentConnection.open({ socketPath: agent.socketPath });
    await expect(connection.request('hello', { protocol: 99 })).rejects.toMatchObject({
      code: 'agent_mismatch',
    });
    await expect(connection.request('make.coffee', {})).rejects.toMatchObject({ code: 'unsupported' });
    connection.close();
  });

  it('reaches sockets whose path is too long for an address', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-'));
    const folder = join(directory, 'x'.repeat(120), 'y'.repeat(120));
    await mkdir(folder, { recursive: true });
    const server = createServer((socket) => socket.destroy());
    server.listen({ path: join(directory, 's') });
    await once(server, 'listening');
    await expect(AgentClient.connect({ socketPath: join(folder, 'missing') })).rejects.toThrow(/ENOENT/);
    server.close();
    await rm(directory, { recursive: true, force: true });
  });

  it('survives rubbish of every kind, and keeps executions over it', async () => {
    const first = await agent.connect();
    await first.executions.start({ id: 'sleeper', argv: ['sleep', '1000'] });
    first.close();
    const valid = Buffer.concat([
      magic,
      Buffer.alloc(16),
      ...encodeFrame({ id: 1, op: 'hello', protocol: 1 }),
    ]);
    const frames = [
      { s: 5, at: 0 },
      { id: 2, op: 'exec.start', exec: 'x', argv: 'no list', stdin: 1, stdout: 1 },
      { id: 3, op: 'exec.attach', exec: 'sleeper', stdin: 7, stdout: 8, stderr: 9 },
      { s: 7, at: 999 },
      { nonsense: true },
    ];
    const attacks = [
      rubbish(1, 5000),
      valid.subarray(0, 40),
      Buffer.concat([valid, Buffer.alloc(8, 0xff)]),
      Buffer.concat([valid, ...frames.flatMap((frame) => encodeFrame(frame))]),
      Buffer.concat([valid, Buffer.from([0, 0, 0, 4]), rubbish(2, 90_000)]),
      ...Array.from({ length: 20 }, (_, seed) => {
        const mutated = Buffer.concat([valid, ...encodeFrame({ id: 4, op: 'exec.list' }), rubbish(seed, 50)]);
        const at = 32 + ((seed * 37) % (mutated.length - 32));
        mutated[at] = (mutated[at] ?? 0) ^ (1 << (seed % 8));
        return mutated;
      }),
    ];
    for (const attack of attacks) {
      const socket = connect(agent.socketPath);
      socket.on('error', () => undefined);
      socket.resume();
      socket.end(attack);
      await once(socket, 'close');
    }
    const client = await agent.connect();
    expect((await client.executions.get('sleeper')).state).toBe('running');
    await client.executions.kill('sleeper');
  });

  it('comes out of a frame of an earlier connection on the same line', async () => {
    // One line to the agent for two clients, as a virtio port is: the first dies within a frame.
    (await agent.connect()).close();
    const line = connect(agent.socketPath);
    line.setMaxListeners(0);
    const relay = createServer((socket) => {
      const forward = (bytes: Buffer) => socket.write(bytes);
      line.on('data', forward);
      socket.on('data', (bytes) => line.write(bytes));
      socket.on('close', () => line.off('data', forward));
      socket.on('error', () => undefined);
    });
    const path = join(agent.directory, 'relay.sock');
    relay.listen(path);
    await once(relay, 'listening');
    const dying = connect(path);
    await once(dying, 'connect');
    const hello = Buffer.concat([
      magic,
      Buffer.alloc(16, 1),
      ...encodeFrame({ id: 1, op: 'hello', protocol: 1 }),
    ]);
    dying.write(
      Buffer.concat([hello, Buffer.from([0, 0, 0, 20, 0, 0, 200, 0]), Buffer.from('{"id":2,"op":"')]),
    );
    await once(dying, 'data');
    dying.destroy();
    const client = await AgentClient.connect({ socketPath: path, timeoutMs: 10_000 });
    expect(await client.system.ping('here')).toBe('here');
    client.close();
    line.destroy();
    relay.close();
  });

  it('fails everything at once when the agent dies', async () => {
    const client = await agent.connect();
    const execution = await client.executions.start({ id: 'cat', argv: ['cat'], stdin: true });
    const reading = text(execution.stdout);
    const started = Date.now();
    const failures = Promise.allSettled([
      reading,
      execution.exit,
      client.files.write('/dev/null/x', never()),
    ]);
    await agent.kill();
    expect(await failures).toMatchObject([
      { status: 'rejected', reason: { code: 'machine_failed' } },
      { status: 'rejected', reason: { code: 'machine_failed' } },
      { status: 'rejected' },
    ]);
    expect(Date.now() - started).toBeLessThan(1000);
    expect((await client.closed).code).toBe('machine_failed');
    await expect(client.system.ping('x')).rejects.toMatchObject({ code: 'machine_failed' });
    await expect(AgentClient.connect({ socketPath: agent.socketPath })).rejects.toMatchObject({
      code: 'machine_failed',
    });
  });

  it('gives up in time and on request', async () => {
    const silent = join(agent.directory, 'silent.sock');
    const server = createServer(() => undefined);
    server.listen(silent);
    await once(server, 'listening');
    await expect(AgentClient.connect({ socketPath: silent, timeoutMs: 100 })).rejects.toMatchObject({
      code: 'timeout',
    });
    const signal = AbortSignal.abort();
    await expect(AgentClient.connect({ socketPath: silent, signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
    server.close();
  });

  it('dials servers inside the guest', async () => {
    const server = createServer((socket) => socket.pipe(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const client = await agent.connect();
    const { input, output } = await client.dial({ port });
    const bytes = 'echo '.repeat(100_000);
    output.end(bytes);
    expect(await text(input)).toBe(bytes);
    server.close();
    await once(server, 'close');
    await expect(client.dial({ port })).rejects.toMatchObject({ code: 'network_unavailable' });
  });
});

/** A source that gives nothing and does not end. */
async function* never(): AsyncGenerator<Uint8Array> {
  await new Promise((_, reject) => setTimeout(() => reject(new Error('too late')), 800));
  yield Buffer.alloc(0);
}
