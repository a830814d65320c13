import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { checkWhole, compile, Kills, operationLimitMs, pointsOf, sample } from './crash.js';

let home: TestHome;
const kills = new Kills();

const withRuntime = async <T>(task: (runtime: Runtime) => Promise<T>): Promise<T> => {
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  return await task(engine.runtime());
};

async function output(runtime: Runtime, script: string): Promise<string> {
  const box = await runtime.get('b');
  const result = await box?.exec(['sh', '-c', script]);
  if (result?.exitCode !== 0) throw new Error(`${script}: ${result?.exitCode} ${result?.stderr}`);
  return result.stdout.toString().trim();
}

/** A running box `b` that writes a volume. */
beforeAll(async () => {
  await compile();
  home = await newHome();
  await withRuntime(async (runtime) => {
    await runtime.images.remove('debian-python');
    await runtime.volumes.create({ name: 'data', sizeGb: 1 });
    const volumes = [{ volume: 'data', guestPath: '/data' }];
    await runtime.create({ image: 'tiny', name: 'b', detach: true, volumes });
    await output(runtime, 'echo whole > /data/mark');
    await runtime.gc();
    await runtime.verify();
  });
});

afterAll(async () => {
  process.stdout.write(`killed an engine at ${kills.killed} points of a box with a volume\n`);
  await withRuntime(async (runtime) => runtime.remove('b', { force: true }));
  await home[Symbol.asyncDispose]();
});

/** Has something to be written to the volume, and pauses the box where the act begins so. */
async function reset(isPaused: boolean): Promise<string> {
  return await withRuntime(async (runtime) => {
    // Also to the box's disk, so that the act passes the same points each time.
    const lines = await output(runtime, 'echo x | tee -a /root/log >> /data/log; sync; wc -l < /data/log');
    const box = await runtime.get('b');
    if (isPaused) await box?.pause();
    await runtime.gc();
    return lines;
  });
}

it.each([
  ['pause', false],
  ['resume', true],
] as const)(
  'is whole after a kill at the points of %s',
  { timeout: operationLimitMs },
  async (act, isPaused) => {
    await reset(isPaused);
    const points = sample(await pointsOf(home.path, act));
    expect(points.length).toBeGreaterThan(0);
    const run = await withRuntime(async (runtime) => {
      await output(runtime, 'true');
      return (await (await runtime.get('b'))?.info())?.run;
    });
    for (const kill of points) {
      const lines = await reset(isPaused);
      try {
        await kills.run({ home: home.path, act, kill });
        await withRuntime(async (runtime) => {
          expect(await output(runtime, 'cat /data/mark; wc -l < /data/log')).toBe(`whole\n${lines}`);
          expect((await (await runtime.get('b'))?.info())?.run).toBe(run);
          const other = { image: 'tiny', volumes: [{ volume: 'data', guestPath: '/data', readOnly: true }] };
          await expect(runtime.create(other)).rejects.toMatchObject({ code: 'conflict' });
          await checkWhole(home.path, runtime);
        });
      } catch (error) {
        throw new Error(`${act}, killed at ${kill.point}@${kill.hit}`, { cause: error });
      }
    }
    kills.check();
  },
);
