import { expect, it } from 'vitest';
import { CommandLines } from '../../src/engine/machines/command-lines.js';
import { TestEngine } from './support.js';

const engine = new TestEngine();

it('gives a box at rest as it was, and after each change as it is', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', name: 'one', labels: { a: 'b' } });
  await box.stop();
  const before = await box.info();
  expect(await box.info()).toBe(before);
  expect(await runtime.list()).toEqual([before]);
  expect((await runtime.list())[0]).toBe(before);
  expect(Object.isFrozen(before) && Object.isFrozen(before.labels)).toBe(true);

  await box.start();
  const running = await box.info();
  expect(running).toMatchObject({ status: 'running', pid: expect.any(Number), run: expect.any(String) });
  expect(await runtime.list({ status: 'stopped' })).toEqual([]);
  await box.files.write('/root/file', Buffer.alloc(4 * 1024 * 1024, 1));
  await box.stop();
  const after = await box.info();
  expect(after.status).toBe('stopped');
  expect(after.storage.diskBytes).toBeGreaterThan(before.storage.diskBytes + 3 * 1024 * 1024);
  expect(await runtime.list()).toEqual([after]);
});

it('gives a paused box the size of its memory', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  await box.pause();
  const [paused] = await runtime.list({ status: 'paused' });
  expect(paused?.storage.memoryBytes).toBeGreaterThan(0);
  await box.resume();
  expect((await box.info()).storage.memoryBytes).toBe(0);
});

it('forgets command lines with the agent, those that run last', async () => {
  const lines = new CommandLines();
  lines.started('runs', ['sleep', '1'], new Promise(() => undefined));
  for (let i = 0; i < 300; i += 1) lines.started(`ended-${i}`, ['true', `${i}`], Promise.resolve());
  await new Promise((resolve) => setImmediate(resolve));
  expect(lines.get('ended-43')).toBeUndefined();
  expect(lines.get('ended-44')).toEqual(['true', '44']);
  expect(lines.get('runs')).toEqual(['sleep', '1']);
});
