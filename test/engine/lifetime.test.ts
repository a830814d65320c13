import { expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { newHome } from '../support/home.js';
import { startEngine } from './engine-process.js';
import { changed, failureOf, TestEngine } from './support.js';

const engine = new TestEngine();
const codeOf = (error: { code: string }): string => error.code;

it('ends a box at its time though a command runs in it', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', lifetime: 3 });
  const started = performance.now();
  const stopped = changed(runtime, box.id, 'stopped');
  expect(await box.info()).toMatchObject({ lifetime: 3, lifetimeAction: 'stop', endsAt: expect.any(Date) });
  const sleeping = box.exec(['sleep', '600']).then(({ signal }) => signal, codeOf);
  const lasted = (await stopped) - started;
  expect(lasted).toBeGreaterThan(2_000);
  expect(lasted).toBeLessThan(30_000);
  // The guest may end it before the machine does.
  expect(['invalid_state', 15]).toContain(await sleeping);
  expect(await box.info()).toMatchObject({ status: 'stopped', lifetime: 3, endsAt: null });
});

it('pauses or removes a box where that was asked for, and gives every run its whole time', async () => {
  const { runtime } = engine;
  const box = await runtime.create({ image: 'tiny', lifetime: 3, lifetimeAction: 'pause' });
  await box.startExec(['sleep', '600']);
  await changed(runtime, box.id, 'paused');
  const removed = changed(runtime, box.id, 'removed');
  await box.setLifetime(3, { action: 'remove' });
  expect(await box.info()).toMatchObject({ status: 'paused', lifetimeAction: 'remove', endsAt: null });
  await box.resume();
  const { endsAt } = await box.info();
  expect((endsAt?.getTime() ?? 0) - Date.now()).toBeGreaterThan(1_500);
  await removed;
  expect(await runtime.get(box.id)).toBeNull();
});

it('gives a run that is under way more time, less, or none to end at', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', lifetime: 600 });
  const left = async (): Promise<number> =>
    Math.round((((await box.info()).endsAt?.getTime() ?? 0) - Date.now()) / 1000);
  await box.setLifetime(60, { extendOnly: true });
  expect(await left()).toBeGreaterThan(500);
  await box.setLifetime(1_200, { extendOnly: true });
  expect(await left()).toBeGreaterThan(1_100);
  await box.setLifetime(60);
  expect(await left()).toBeLessThanOrEqual(60);
  await box.setLifetime(0);
  expect(await box.info()).toMatchObject({ lifetime: 0, endsAt: null, status: 'running' });
  await box.setLifetime(1, { extendOnly: true });
  expect((await box.info()).endsAt).toBeNull();
  expect(await failureOf(box.setLifetime(-1))).toMatchObject({ code: 'invalid_argument' });
  expect(await failureOf(box.setLifetime(1, { action: 'burn' as 'stop' }))).toMatchObject({
    code: 'invalid_argument',
    message: expect.stringContaining('action must be one of stop, pause, remove'),
  });
});

it('goes on with the time of a run that is rolled back, and gives forks their own', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', lifetime: 600 });
  await box.snapshot.create('then', { memory: true });
  await box.setLifetime(1_200);
  const { endsAt } = await box.info();
  await box.snapshot.restore('then', { live: true });
  expect((await box.info()).endsAt).toEqual(endsAt);
  const [fork] = await box.fork({ count: 1 });
  if (!fork || 'error' in fork) throw fork?.error ?? new Error('no fork');
  await using child = fork.box;
  const info = await child.info();
  expect(info.lifetime).toBe(1_200);
  expect(info.endsAt?.getTime()).toBeGreaterThan(endsAt?.getTime() ?? 0);
  await child.remove({ force: true });
});

it('ends a box whose time came while no engine was there', { timeout: 120_000 }, async () => {
  await using home = await newHome();
  const { connectRuntime } = await import('../../src/remote/index.js');
  const first = await startEngine(home.path);
  const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
  const late = await client.create({ image: 'tiny', lifetime: 600, lifetimeAction: 'remove', detach: true });
  const lasting = await client.create({ image: 'tiny', lifetime: 600, detach: true });
  const { endsAt } = await lasting.info();
  await late.setLifetime(1);
  process.kill(first.pid, 'SIGKILL');
  await first.exited;
  await client.close();

  await using again = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = again.runtime();
  await expect.poll(() => runtime.get(late.id), { timeout: 30_000 }).toBeNull();
  const found = await runtime.get(lasting.id);
  expect(await found?.info()).toMatchObject({ status: 'running', endsAt });
  await found?.remove({ force: true });
});
