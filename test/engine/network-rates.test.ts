import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { Outside } from './outside.js';
import { failureOf } from './support.js';

const bench = join(import.meta.dirname, '../../bench/support');
/** What is sent and got in one go. */
const mebibytes = 4;
const rate = 1 << 20;

let home: TestHome;
let outside: Outside;
let engine: Engine;

beforeAll(async () => {
  home = await newHome();
  outside = await Outside.start({ script: join(bench, 'net-servers.mjs') });
  await outside.useIn(home.path);
  engine = await Engine.open({ home: home.path, poolSize: 0 });
});

afterAll(async () => {
  for (const { id } of (await engine?.runtime().list()) ?? [])
    await engine.runtime().remove(id, { force: true });
  await engine?.close();
  await outside?.[Symbol.asyncDispose]();
  await home?.[Symbol.asyncDispose]();
});

/** Milliseconds that a use takes in the box. */
async function use(box: Box, kind: 'sends' | 'receives'): Promise<number> {
  const command = ['python3', '/net.py', kind, outside.address, String(mebibytes)];
  const { stdout, stderr } = await box.exec(command, { timeoutMs: 60_000 });
  if (stdout.length === 0) throw new Error(stderr);
  return Number(stdout);
}

it('limits what a box sends and gets, changes while it runs, and is kept', async () => {
  const box = await engine.runtime().create({
    image: 'debian-python',
    network: { rateLimit: { sendBytesPerSecond: rate } },
  });
  await box.files.write('/net.py', await readFile(join(bench, 'net-client.py')));
  // All but what may come at once.
  const leastMs = 900 * (mebibytes - 0.2);
  expect(await use(box, 'sends')).toBeGreaterThan(leastMs);
  expect(await use(box, 'receives')).toBeLessThan(leastMs);
  const { rateLimit } = await box.network.update({ rateLimit: { receiveBytesPerSecond: rate } });
  expect(rateLimit).toEqual({ receiveBytesPerSecond: rate });
  expect(await use(box, 'sends')).toBeLessThan(leastMs);
  expect(await use(box, 'receives')).toBeGreaterThan(leastMs);
  await box.pause();
  await box.resume();
  expect((await box.info()).network.rateLimit).toEqual({ receiveBytesPerSecond: rate });
  expect(await use(box, 'receives')).toBeGreaterThan(leastMs);
  await box.network.update({});
  expect(await use(box, 'receives')).toBeLessThan(leastMs);
}, 120_000);

it('refuses what is no limit, by name', async () => {
  for (const [rateLimit, message] of [
    [{ sendBytesPerSecond: 100 }, 'network.rateLimit.sendBytesPerSecond is 100'],
    [{ receiveBytesPerSecond: 1.5e6 + 0.5 }, 'network.rateLimit.receiveBytesPerSecond'],
    [{ txKbps: 100 }, 'network.rateLimit.txKbps'],
  ] as const) {
    const made = engine.runtime().create({ image: 'tiny', network: { rateLimit: rateLimit as object } });
    expect(await failureOf(made)).toMatchObject({ message: expect.stringContaining(message) });
  }
});
