import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { output, TestEngine } from './support.js';

const engine = new TestEngine();
/** More than are restored at once, so that some wait after they were stored. */
const children = 4;

/** Uses each box as soon as it is told of, until `count` were. Resolves with what `use` returned. */
async function useNew<T>(runtime: Runtime, count: number, use: (id: string) => Promise<T>): Promise<T[]> {
  const uses: Promise<T>[] = [];
  for await (const { id, kind, change } of runtime.events()) {
    if (kind !== 'box' || change !== 'created') continue;
    uses.push(use(id));
    if (uses.length === count) break;
  }
  return await Promise.all(uses);
}

async function inMemoryOf(runtime: Runtime, id: string): Promise<string> {
  const box = await runtime.get(id);
  if (!box) return 'there is no such box';
  return await output(box, 'cat /dev/shm/moment').catch(String);
}

async function machineFolders(): Promise<string[]> {
  return (await readdir(join(engine.home, 'machines'))).sort();
}

it('has children of a fork that are used before they have come up go on from its memory, and leaves no machine', {
  timeout: 240_000,
}, async () => {
  const { runtime } = engine;
  await using parent = await runtime.create({ image: 'tiny' });
  await output(parent, 'echo kept > /dev/shm/moment');
  const before = await machineFolders();
  const seen = useNew(runtime, children, (id) => inMemoryOf(runtime, id));
  const results = await parent.fork({ count: children });
  await seen;
  for (const result of results) {
    if ('error' in result) throw result.error;
    await result.box.remove({ force: true });
  }
  expect({ seen: await seen, machines: await machineFolders() }).toEqual({
    seen: Array.from({ length: children }, () => 'kept'),
    machines: before,
  });
});

it('has a box that is used before it has come up come up once', { timeout: 120_000 }, async () => {
  const { runtime } = engine;
  const before = await machineFolders();
  const started = useNew(runtime, 1, async (id) => {
    await (await runtime.get(id))?.start();
  });
  const box = await runtime.create({ image: 'tiny' });
  await started;
  expect((await box.info()).status).toBe('running');
  await box.remove({ force: true });
  expect(await machineFolders()).toEqual(before);
});
