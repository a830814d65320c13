import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { silentLogger } from '../../src/base/log.js';
import { Engine } from '../../src/engine/index.js';
import { newHome } from '../support/home.js';
import { changed, TestEngine } from './support.js';
import { tightHome } from './tight-disk.js';

const engine = new TestEngine();

it('stops and then removes a box that nobody uses, not one that is used', async () => {
  const { runtime } = engine;
  const box = await runtime.create({ image: 'tiny', autoStop: 1, autoDelete: 3 });
  const stopped = changed(runtime, box.id, 'stopped');
  const removed = changed(runtime, box.id, 'removed');
  const used = performance.now();
  await box.exec(['sleep', '2']);
  expect((await box.info()).status).toBe('running');
  const ended = performance.now();
  expect((await stopped) - ended).toBeGreaterThan(900);
  expect((await stopped) - used).toBeGreaterThan(2900);
  await removed;
  expect(await runtime.get(box.id)).toBeNull();
});

it('starts a stopped box for an exec only when it may', async () => {
  const { runtime } = engine;
  await using waking = await runtime.create({ image: 'tiny' });
  await waking.files.write('/root/kept', 'kept');
  await waking.stop();
  expect((await waking.exec(['cat', '/root/kept'])).stdout.toString()).toBe('kept');
  await using sleeping = await runtime.create({ image: 'tiny', autoResume: false });
  await sleeping.stop();
  await expect(sleeping.exec(['true'])).rejects.toMatchObject({ code: 'stopped' });
});

const statusOf = async (box: Box): Promise<string> => (await box.info()).status;

it('counts from the start of a box, and forgets how long it was stopped', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', autoStop: 2 });
  await box.stop();
  await delay(2_500);
  await box.start();
  const started = performance.now();
  const stopped = changed(runtime, box.id, 'stopped');
  expect((await stopped) - started).toBeGreaterThan(1_900);
});

it('takes an operation under way for a use, and asks again once it has the lock', {
  timeout: 120_000,
}, async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', autoStop: 1 });
  for (let round = 0; round < 3; round += 1) {
    await box.exec(['true']);
    // The lock is taken when the box is about to be stopped, and a command begins while somebody waits for it.
    await delay(800);
    const snapshot = box.snapshot.create(`s${round}`, { memory: round % 2 === 0 });
    await delay(150);
    expect(await box.exec(['sleep', '1.5'])).toMatchObject({ exitCode: 0 });
    await snapshot;
    expect(await statusOf(box)).toBe('running');
  }
});

it('takes a command that nobody is attached to for a use, until it ends', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', autoStop: 1 });
  const stopped = changed(runtime, box.id, 'stopped');
  const execution = await box.startExec(['sleep', '4']);
  const started = performance.now();
  await execution.detach();
  const after = (await stopped) - started;
  expect(after).toBeGreaterThan(4_800);
  expect(after).toBeLessThan(12_000);
});

it('tries again when an idle box could not be paused', { timeout: 120_000 }, async () => {
  await using home = await tightHome(900);
  const warned = new EventEmitter();
  const logger = {
    ...silentLogger,
    warn: (message: string) => {
      warned.emit(message);
    },
  };
  await using own = await Engine.open({ home: home.path, poolSize: 0, logger });
  const runtime = own.runtime();
  await using box = await runtime.create({ image: 'tiny', autoStop: 2, autoStopAction: 'pause' });
  await box.exec(['sh', '-c', 'head -c 12000000 /dev/urandom > /dev/shm/data']);
  const refused = once(warned, 'cannot end an idle box');
  await home.fill(2000);
  await refused;
  expect(await statusOf(box)).toBe('running');
  const paused = changed(runtime, box.id, 'paused');
  await home.empty();
  await paused;
  expect(await statusOf(box)).toBe('paused');
  await box.start({ discardMemory: true });
});

it('keeps no deadline of a box that is gone, whoever used it', async () => {
  await using home = await newHome();
  const warnings: string[] = [];
  const logger = {
    ...silentLogger,
    warn: (message: string) => {
      warnings.push(message);
    },
  };
  await using own = await Engine.open({ home: home.path, poolSize: 0, logger });
  const runtime = own.runtime();
  const box = await runtime.create({ image: 'tiny', autoStop: 1, autoDelete: 2 });
  const used = box.exec(['sleep', '60']).catch((error: unknown) => error);
  await box.remove({ force: true });
  expect(await used).toMatchObject({ code: 'not_found' });
  // Nothing tells that nothing happens.
  await delay(3_000);
  expect(warnings).toEqual([]);
});

it('removes a clone that was never used, too', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', autoDelete: 3 });
  const clone = await box.clone('unused');
  await changed(runtime, clone.id, 'removed');
  expect(await runtime.get(clone.id)).toBeNull();
});
