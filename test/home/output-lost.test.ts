import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { Box, ByteSource, Execution, Runtime } from '../../src/api/index.js';
import type { CryoboxError } from '../../src/errors.js';
import { connectRuntime } from '../../src/remote/index.js';
import { mustRun, spawnCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

/** Some MiB over many seconds: the server dies somewhere in the middle, and comes back before or after the end. */
const script = 'i=0; while [ $i -lt 20 ]; do i=$((i+1)); seq 1 20000; echo $i >&2; sleep 0.4; done; exit 7';
const argv = ['sh', '-c', script];
const quiet = ['sh', '-c', script.replace('exit 7', 'exit 0')];
/** Longer than an agent waits for a connection that ended: from then on it drops what its ring does not hold. */
const awayMs = 3_000;

/** What came of a stream until its end, and why it ended. */
async function drain(source: ByteSource): Promise<{ text: string; error: CryoboxError | undefined }> {
  const chunks: Uint8Array[] = [];
  let error: CryoboxError | undefined;
  try {
    for await (const chunk of source) chunks.push(chunk);
  } catch (thrown) {
    error = thrown as CryoboxError;
  }
  return { text: Buffer.concat(chunks).toString(), error };
}

const whole = Array.from(
  { length: 20 },
  () => `${Array.from({ length: 20_000 }, (_, i) => i + 1).join('\n')}\n`,
).join('');

let home: TestHome;
let server: ReturnType<typeof spawnCli>;
let url: string;
let key: string;

/** Where the server is; while it is away, who asks for it waits. */
let place: Promise<number>;
/** Carries connections to it, so that clients wait for a server that is slow to come back. */
const relay = createServer((client) => {
  client.pause();
  client.on('error', () => undefined);
  place.then(
    (port) => {
      const upstream = connect(port, '127.0.0.1');
      upstream.on('error', () => undefined);
      upstream.once('close', () => client.destroy());
      client.once('close', () => upstream.destroy());
      client.pipe(upstream).pipe(client);
    },
    () => client.destroy(),
  );
});

async function serve(): Promise<number> {
  server = spawnCli(home.path, ['serve', '--port', '0'], {});
  const [line] = await once(server.stdout ?? expect.unreachable(), 'data');
  return Number(new URL(String(line).trim().split(/\s/)[0] ?? '').port);
}

let runtime: Runtime;
let box: Box;
let waited: Promise<unknown>;
let followed: Execution;
let streams: Promise<{ text: string; error: CryoboxError | undefined }[]>;
let left: string;
let command: ReturnType<typeof spawnCli>;

beforeAll(async () => {
  home = await newHome();
  // The server knows nothing of the relay's port: without a key it would refuse requests for it.
  ({ key } = JSON.parse(await mustRun(home.path, 'keys', 'create', '--name', 'test', '--format', 'json')));
  place = serve();
  await place;
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  url = `http://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  runtime = connectRuntime({ url, apiKey: key });
  box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
  waited = box.exec(argv).catch((error: unknown) => error);
  followed = await box.startExec(argv);
  streams = Promise.all([drain(followed.stdout), drain(followed.stderr)]);
  const unfollowed = await box.startExec(quiet);
  left = unfollowed.id;
  command = spawnCli(home.path, ['exec', 'b', ...argv], { env: { CRYOBOX_URL: url, CRYOBOX_API_KEY: key } });
  while ((await box.executions.list()).filter(({ status }) => status === 'running').length < 4)
    await delay(50);
  await unfollowed.detach();
  const killed = server;
  place = once(killed, 'exit')
    .then(() => delay(awayMs))
    .then(serve);
  killed.kill('SIGKILL');
  await place;
}, 120_000);

afterAll(async () => {
  await box.remove({ force: true });
  await runtime.close();
  server.kill('SIGINT');
  await server;
  relay.close();
  await home[Symbol.asyncDispose]();
});

it('fails an exec by name when some of its output never came, after its end', {
  timeout: 90_000,
}, async () => {
  const error = await waited;
  expect(error).toMatchObject({
    code: 'output_lost',
    details: { box: box.id, exitCode: 7, signal: null, timedOut: false, droppedStderr: 0 },
  });
  const { message, hint, details } = error as CryoboxError;
  expect(details.droppedStdout).toBeGreaterThan(100_000);
  expect(message).toContain(`${details.droppedStdout} bytes of stdout`);
  // What it says to do next works.
  const [, next = ''] = /`cryobox (attach \S+ \S+)`/.exec(hint) ?? [];
  const again = await spawnCli(home.path, next.split(' '), {
    env: { CRYOBOX_URL: url, CRYOBOX_API_KEY: key },
  });
  expect(again.exitCode).toBe(7);
  expect(whole.endsWith(String(again.stdout))).toBe(true);
  expect(String(again.stdout).length).toBeGreaterThan(200_000);
  expect(again.stderr).toContain('bytes of earlier output were dropped');
});

it('ends a stream at its hole, and no other', { timeout: 90_000 }, async () => {
  const [stdout, stderr] = await streams;
  expect(stdout?.error).toMatchObject({ code: 'output_lost' });
  expect(whole.startsWith(stdout?.text ?? '-')).toBe(true);
  expect(stderr).toEqual({
    text: Array.from({ length: 20 }, (_, i) => `${i + 1}\n`).join(''),
    error: undefined,
  });
  expect(await followed.wait()).toMatchObject({ exitCode: 7 });
  expect(followed.droppedBytes.stdout).toBeGreaterThan(100_000);
});

it('says on the command line what was lost, and ends with the code of its own failures', {
  timeout: 90_000,
}, async () => {
  const { exitCode, stdout, stderr } = await command;
  expect(exitCode).toBe(125);
  expect(stderr).toMatch(/error: \d+ bytes of stdout were lost/);
  expect(stderr).toContain('hint: `cryobox attach ');
  expect(whole.startsWith(String(stdout))).toBe(true);
});

it('does not end a cut-off output with success for clients of version 1', { timeout: 90_000 }, async () => {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/boxes/${box.id}/executions/${left}/attach`, {
    headers: { authorization: `Bearer ${key}` },
  });
  const messages: Record<string, unknown>[] = [];
  let bytes = 0;
  socket.on('message', (data: Buffer, binary: boolean) => {
    if (binary) bytes += data.length - 1;
    else messages.push(JSON.parse(data.toString()));
  });
  await once(socket, 'close');
  const exit = messages.at(-1);
  expect(exit).toMatchObject({ type: 'exit', exit_code: 125, signal: null });
  expect(exit?.dropped_stdout).toBeGreaterThan(100_000);
  expect(exit?.error_message).toContain('bytes of stdout');
  expect(messages.at(-2)).toMatchObject({
    type: 'error',
    code: 'execution_failed',
    error: { reason: 'output_lost', details: { exitCode: 0, droppedStdout: exit?.dropped_stdout } },
  });
  expect(bytes).toBeGreaterThan(200_000);
});
