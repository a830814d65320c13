import { createHash } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { Outside } from '../engine/outside.js';
import { newHome, type TestHome } from '../support/home.js';
import { interceptorPid } from './kept.js';

const value = 'sk-live-77aa01c2-of-requests';
/** What is sent each way in one body. */
const mebibytes = 200;
/** What the process that puts values in may grow by for it: a few buffers of each connection, and garbage. */
const maxGrowthKiB = 64 * 1024;

let home: TestHome;
let outside: Outside;
let engine: Engine;
let box: Box;

beforeAll(async () => {
  home = await newHome();
  const script = join(import.meta.dirname, 'echo.mjs');
  outside = await Outside.start({ script, names: ['api.test'] });
  await outside.useIn(home.path);
  engine = await Engine.open({ home: home.path, poolSize: 0 });
  const secrets = { API_KEY: { value, hosts: ['api.test'] } };
  box = await engine.runtime().create({ image: 'debian-python', secrets });
  await box.files.write('/ask.py', await readFile(join(import.meta.dirname, 'secret-requests.py')));
});

afterAll(async () => {
  await box?.remove({ force: true });
  await engine?.close();
  await outside?.[Symbol.asyncDispose]();
  await home?.[Symbol.asyncDispose]();
});

/** What a kind of request comes to. */
async function ask(...kind: string[]): Promise<unknown> {
  const { stdout, stderr } = await box.exec(['python3', '/ask.py', ...kind], { timeoutMs: 280_000 });
  return JSON.parse(stdout.toString() || JSON.stringify(stderr.toString()));
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');

it('gives requests with bodies of every form their values, on one connection', async () => {
  const body = `one${'two'.repeat(1000)}x`;
  expect(await ask('chunked')).toEqual([
    [1, value, 0, hashOf('')],
    [2, value, body.length, hashOf(body)],
    [3, value, 4, hashOf('body')],
    [4, value, 0, hashOf('')],
  ]);
  // As the client would see it without anybody between: it asks again then.
  expect(await ask('dropped')).toBe('ended');
});

it('gives upgrades to WebSocket their values, and leaves frames as they are', async () => {
  outside.take();
  expect(await ask('websocket')).toEqual(['101', true]);
  expect(outside.take()).toContainEqual(
    expect.objectContaining({ method: 'UPGRADE', headers: expect.objectContaining({ 'x-key': value }) }),
  );
});

it('puts values into plain HTTP only where a host says so', async () => {
  outside.take();
  expect(await ask('plain_websocket')).toEqual(['403', false]);
  expect(outside.take().filter((what) => 'method' in what)).toEqual([]);
  const said = await box.exec([
    'sh',
    '-c',
    'wget -qO- --header "x-key: $API_KEY" http://api.test/ 2>&1; true',
  ]);
  const denials = (await box.network.info()).traffic?.denials;
  expect(denials).toContainEqual(
    expect.objectContaining({ reason: 'secret_host', name: 'api.test', port: 80 }),
  );
  expect(said.stdout.toString()).not.toContain(value);
  await box.secrets.set('API_KEY', { hosts: ['api.test', 'http://api.test'] });
  expect((await box.secrets.list())[0]?.hosts).toEqual(['api.test', 'http://api.test']);
  expect(await ask('plain_websocket')).toEqual(['101', true]);
  const arrived = outside.take();
  expect(arrived).toContainEqual(
    expect.objectContaining({ headers: expect.objectContaining({ 'x-key': value }) }),
  );
  expect(await ask('websocket')).toEqual(['101', true]);
  await box.secrets.set('API_KEY', { hosts: ['api.test'] });
});

it('streams bodies of any length, without holding them', async () => {
  await ask('upload', '1');
  await ask('download', '1');
  const pid = await interceptorPid(home.path);
  const before = await residentKiB(pid);
  expect(await ask('upload', String(mebibytes))).toEqual([value, mebibytes << 20]);
  expect(await ask('download', String(mebibytes))).toBe(mebibytes << 20);
  expect((await residentKiB(pid)) - before).toBeLessThan(maxGrowthKiB);
}, 600_000);

it('lets nothing out while what puts values in is gone', async () => {
  outside.take();
  const slow = await box.startExec(['python3', '/ask.py', 'slow'], { stdin: true });
  const lines = slow.stdout[Symbol.asyncIterator]();
  expect(String((await lines.next()).value)).toBe('begun\n');
  // The head and the first of the body are at the server: so much has left.
  await expect.poll(() => outside.take().some((what) => 'begun' in what), { timeout: 30_000 }).toBe(true);
  // No other one can start while something else is where it runs.
  const directory = join(home.path, 'interceptor');
  const pid = await interceptorPid(home.path);
  await rename(directory, `${directory}.aside`);
  await writeFile(directory, '');
  process.kill(pid, 'SIGKILL');
  await expect.poll(() => outside.take().some((what) => 'broken' in what), { timeout: 30_000 }).toBe(true);
  await slow.stdin?.write('go on\n');
  expect(String((await lines.next()).value)).toMatch(/Error/);
  expect(await ask('websocket')).toMatch(/ConnectionResetError|SSLEOFError/);
  expect(await ask('chunked')).toMatch(/ConnectionResetError|SSLEOFError/);
  expect(outside.take()).toEqual([]);
  const { traffic } = await box.network.info();
  expect(traffic?.refused.interceptor_unavailable).toBeGreaterThan(0);
  await rm(directory);
  await rename(`${directory}.aside`, directory);
  await expect.poll(() => ask('websocket'), { timeout: 60_000 }).toEqual(['101', true]);
}, 180_000);

/** The most memory that a process has had (proc_pid_status(5), `VmHWM`). */
async function residentKiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]);
}
