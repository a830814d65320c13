import { expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { TestEngine } from './support.js';

const engine = new TestEngine();

/** Resolves when a box is said to have changed so; listens from now on. */
async function changed(runtime: Runtime, boxId: string, change: string): Promise<number> {
  for await (const event of runtime.events()) {
    if (event.id === boxId && event.change === change) return performance.now();
  }
  return Number.NaN;
}

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
