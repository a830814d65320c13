import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { diskChain } from '../engine/disk-files.js';
import { newHome, type TestHome } from '../support/home.js';
import { checkHome, compile, operationLimitMs, pointsOf, runDriver, sample, viewOf } from './crash.js';

let home: TestHome;
let killed = 0;

beforeAll(async () => {
  await compile();
  home = await newHome();
  await mkdir(join(home.path, 'out'));
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  await engine.runtime().images.remove('debian-python');
  const box = await engine.runtime().create({ image: 'tiny', name: 'b', detach: true });
  await box.files.write('/root/mark', 'still here');
  await box.snapshot.create('s1');
  await engine.runtime().gc();
  await engine.runtime().verify();
});

afterAll(async () => {
  process.stdout.write(`killed a running box's engine at ${killed} points\n`);
  {
    await using engine = await Engine.open({ home: home.path, poolSize: 0 });
    await engine.runtime().remove('b', { force: true });
  }
  await home[Symbol.asyncDispose]();
});

/** The machine was taken over: it is the same, it writes, and its heads are those of the database. */
async function probe(engine: Engine, pid: number): Promise<void> {
  const box = await engine.runtime().get('b');
  expect(await box?.info()).toMatchObject({ status: 'running', pid, operation: null });
  const { stdout, exitCode } =
    (await box?.exec(['sh', '-c', 'echo x >> /root/alive; sync; cat /root/mark'])) ?? {};
  expect({ exitCode, stdout: stdout?.toString() }).toEqual({ exitCode: 0, stdout: 'still here' });
  await box?.snapshot.create('probe');
  await box?.snapshot.remove('probe');
  expect((await diskChain(engine.paths.root, box?.id ?? '')).length).toBeLessThanOrEqual(16);
}

/** Undoes what an act did, so that the next one finds the home as the first did. */
async function reset(): Promise<void> {
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  const box = await runtime.get('b');
  if (await box?.snapshot.get('new')) await box?.snapshot.remove('new');
  if (await runtime.get('c')) await runtime.remove('c');
  await box?.exec(['sh', '-c', 'echo y >> /root/alive; sync']);
  await runtime.gc();
}

async function pidOfBox(): Promise<number> {
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  return (await (await engine.runtime().get('b'))?.info())?.pid ?? 0;
}

async function killEverywhere(act: string): Promise<void> {
  const pid = await pidOfBox();
  await reset();
  const old = await viewOf(home.path);
  const points = await pointsOf(home.path, act);
  const expected = { old, new: await viewOf(home.path) };
  for (const kill of points) {
    await reset();
    try {
      expect(await runDriver({ home: home.path, act, kill })).toBe(true);
      killed += 1;
      await checkHome(home.path, expected, (engine) => probe(engine, pid));
    } catch (error) {
      throw new Error(`${act}, killed at ${kill.point}@${kill.hit}`, { cause: error });
    }
  }
}

it('survives a kill at every point of a snapshot of a running box', { timeout: operationLimitMs }, () =>
  killEverywhere('snapshot'),
);

it('survives a kill at every point of a clone of a running box', { timeout: operationLimitMs }, () =>
  killEverywhere('clone'),
);

it('survives a kill at every point of a flatten under a running box', {
  timeout: operationLimitMs,
}, async () => {
  const pid = await pidOfBox();
  for (const kill of sample(flattenKills)) {
    await fillChain();
    const old = await viewOf(home.path);
    try {
      expect(await runDriver({ home: home.path, act: 'snapshot', kill })).toBe(true);
      killed += 1;
      await checkHome(home.path, { old, new: old }, (engine) => probe(engine, pid));
    } catch (error) {
      throw new Error(`flatten, killed at ${kill.point}@${kill.hit}`, { cause: error });
    }
  }
});

/** Where a flatten is in its course: the copy, its commit, the new parent's commit, the machine, the header. */
const flattenKills = [
  { point: 'layer.write:before', hit: 1 },
  { point: 'layer.write:after', hit: 1 },
  { point: 'layer.seal:after', hit: 1 },
  ...[1, 2, 3].map((hit) => ({ point: 'commit:before', hit })),
  ...[1, 2, 3].map((hit) => ({ point: 'commit:after', hit })),
  ...[1, 2, 3, 4].map((hit) => ({ point: 'qmp:after', hit })),
  { point: 'header.write:before', hit: 1 },
  { point: 'header.write:after', hit: 1 },
];

/** Brings the chain of the box to its full length. */
async function fillChain(): Promise<void> {
  await reset();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().get('b');
  for (let i = 0; (await diskChain(home.path, box?.id ?? '')).length < 16; i += 1) {
    await box?.exec(['sh', '-c', 'echo y >> /root/alive; sync']);
    await box?.snapshot.create(`fill${i}`);
    await box?.snapshot.remove(`fill${i}`);
  }
  await box?.exec(['sh', '-c', 'echo y >> /root/alive; sync']);
}
