import { once } from 'node:events';
import { type AddressInfo, connect, createServer as createRelay } from 'node:net';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import type { CryoboxError } from '../../src/errors.js';
import { connectRuntime } from '../../src/remote/index.js';
import { createServer, type Server, type ServerOptions, scopes } from '../../src/server/index.js';
import { newHome, type TestHome } from '../support/home.js';

/** Waits for a file, writes far more than is kept, and says so by another one. */
const script = 'echo begun; until [ -e /tmp/go ]; do usleep 50000; done; seq 1 200000; touch /tmp/over';
const argv = ['sh', '-c', script];

let home: TestHome;
let engine: Engine;
let server: Server;
let runtime: Runtime;
let box: Box;
let url: string;
let id: string;
let followed: Promise<unknown>;

/** Where the server is; who asks for it while it is away waits. */
let place: Promise<number>;
const relay = createRelay((client) => {
  client.on('error', () => undefined);
  client.pause();
  place.then((port) => {
    const upstream = connect(port, '127.0.0.1');
    upstream.on('error', () => undefined);
    upstream.once('close', () => client.destroy());
    client.once('close', () => upstream.destroy());
    client.pipe(upstream).pipe(client);
  }, expect.unreachable);
});

async function open(): Promise<void> {
  engine = await Engine.open({ home: home.path, poolSize: 0 });
  const options: ServerOptions = {
    runtimeFor: (tenant, access) => engine.runtime(tenant, access),
    authenticator: { authenticate: async () => ({ id: 'o', tenant: '', scopes, expiresAt: null }) },
  };
  server = createServer(options);
}

async function listen(): Promise<number> {
  return Number(new URL((await server.listen({ port: 0 })).url).port);
}

beforeAll(async () => {
  home = await newHome();
  await open();
  place = listen();
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  url = `http://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  runtime = connectRuntime({ url, apiKey: 'any' });
  box = await runtime.create({ image: 'tiny', name: 'b', detach: true, autoStop: 0 });
  followed = box.exec(argv).catch((error: unknown) => error);
  // A command whose caller is gone: whoever comes later can only ask for it.
  const own = await (await engine.runtime().get('b'))?.startExec(argv);
  id = own?.id ?? expect.unreachable();
  await own?.detach();
  await vi.waitUntil(async () => (await box.executions.list()).length === 2);
  await box.pause();
  let arrive: (port: number) => void = () => expect.unreachable();
  place = new Promise((resolve) => {
    arrive = resolve;
  });
  await server.close();
  await engine.close();
  await open();
  const again = (await engine.runtime().get('b')) ?? expect.unreachable();
  await again.resume();
  await again.exec(['rm', '-f', '/tmp/over']);
  await again.exec(['touch', '/tmp/go']);
  // The guest waits a while for who followed it; then it goes on without a reader.
  await vi.waitUntil(
    async () => !(await again.executions.list()).some(({ status }) => status === 'running'),
    { timeout: 60_000, interval: 250 },
  );
  arrive(await listen());
}, 180_000);

afterAll(async () => {
  await engine.runtime().remove('b', { force: true });
  await runtime.close();
  await server.close();
  await engine.close();
  relay.close();
  await home[Symbol.asyncDispose]();
});

it('fails who followed a command through a pause when output was dropped before its return', {
  timeout: 60_000,
}, async () => {
  const error = (await followed) as CryoboxError;
  expect(error).toMatchObject({ code: 'output_lost', details: { exitCode: 0, droppedStderr: 0 } });
  expect(error.details['droppedStdout']).toBeGreaterThan(500_000);
});

it('says of an ended command what was lost, and of its exit code the truth', async () => {
  for (const { executions } of [box, (await engine.runtime().get('b')) ?? expect.unreachable()]) {
    const info = await executions.get(id);
    expect(info).toMatchObject({ status: 'completed', exitCode: 0, lostBytes: { stderr: 0 } });
    expect(info?.lostBytes.stdout).toBeGreaterThan(500_000);
    expect(info?.errorMessage).toContain(`${info?.lostBytes.stdout} bytes of stdout were lost`);
    expect((await executions.list()).find((it) => it.id === id)).toEqual(info);
  }
});

it('gives a client of version 1 that only asks for the command no success', async () => {
  const answer = await fetch(`${url}/v1/boxes/b/executions/${id}`, {
    headers: { authorization: 'Bearer any' },
  });
  const info = (await answer.json()) as Record<string, unknown>;
  expect(info).toMatchObject({ status: 'completed', exit_code: 125, command_exit_code: 0, lost_stderr: 0 });
  expect(info['lost_stdout']).toBeGreaterThan(500_000);
  expect(info['error_message']).toMatch(/bytes of stdout were lost/);
});

it('tells who attaches later where what is kept begins', async () => {
  const execution = await box.executions.attach(id);
  let text = '';
  for await (const chunk of execution.stdout) text += Buffer.from(chunk).toString();
  const whole = `begun\n${Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join('')}`;
  expect(whole.length - text.length).toBe(execution.droppedBytes.stdout);
  expect(whole.endsWith(text)).toBe(true);
  expect(text.length).toBeGreaterThan(200_000);
});

it('counts nothing as lost that was read, however much it was', async () => {
  const { stdout, exitCode } = await box.exec(['seq', '1', '200000']);
  expect([stdout.length, exitCode]).toEqual([1_288_895, 0]);
  for (const info of await box.executions.list()) {
    if (info.command[0] !== 'seq') continue;
    expect(info).toMatchObject({ exitCode: 0, lostBytes: { stdout: 0, stderr: 0 } });
    expect(info.errorMessage).toBeUndefined();
  }
});
