import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { writeBlocks } from '../engine/disk-files.js';
import { newHome, type TestHome } from '../support/home.js';
import { checkHome, compile, copyHome, operationLimitMs, pointsOf, runDriver, viewOf } from './crash.js';

let base: TestHome;
let killed = 0;

/** A stopped box `b` with the snapshots s1 and s2, data in each, an archive, and a volume. */
beforeAll(async () => {
  await compile();
  base = await newHome();
  await mkdir(join(base.path, 'out'));
  await using engine = await Engine.open({ home: base.path, poolSize: 0 });
  const runtime = engine.runtime();
  await runtime.images.remove('debian-python');
  const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
  await box.stop();
  await runtime.volumes.create({ name: 'given', sizeGb: 1 });
  for (const [i, name] of ['s1', 's2'].entries()) {
    await writeBlocks(base.path, box.id, new Map([[i, i + 1]]));
    await box.snapshot.create(name);
  }
  await writeBlocks(
    base.path,
    box.id,
    new Map([
      [0, 9],
      [3, 8],
    ]),
  );
  await box.export(join(base.path, 'out', 'given.boxsnap'));
  await writeBlocks(base.path, box.id, new Map([[4, 7]]));
  await runtime.gc();
  await runtime.verify();
});

afterAll(async () => {
  process.stdout.write(`killed a resting home's engine at ${killed} points\n`);
  await base?.[Symbol.asyncDispose]();
});

/** Kills the act at each of its points, each time in a copy of `home`. */
async function killEverywhere(home: string, act: string): Promise<void> {
  const old = await viewOf(home);
  const whole = await copyHome(home);
  const points = await pointsOf(whole, act);
  expect(points.length).toBeGreaterThan(0);
  const expected = { old, new: await viewOf(whole) };
  await endMachines(whole);
  for (const kill of points) {
    const copy = await copyHome(home);
    try {
      expect(await runDriver({ home: copy, act, kill })).toBe(true);
      killed += 1;
      await checkHome(copy, expected);
    } catch (error) {
      throw new Error(`${act}, killed at ${kill.point}@${kill.hit}`, { cause: error });
    } finally {
      await endMachines(copy);
    }
  }
}

async function endMachines(home: string, look: () => Promise<void> = async () => undefined): Promise<void> {
  {
    await using engine = await Engine.open({ home, poolSize: 0 });
    await look();
    for (const { id, status } of await engine.runtime().list()) {
      if (status === 'running') await engine.runtime().remove(id, { force: true });
    }
  }
  await rm(home, { recursive: true });
}

it.each([
  'snapshot',
  'restore',
  'snapshot-remove',
  'clone',
  'clone-snapshot',
  'clone-full',
  'export',
  'import',
  'remove',
  'create',
  'volume-create',
  'volume-remove',
])('survives a kill at every point of %s', { timeout: operationLimitMs }, (act) =>
  killEverywhere(base.path, act),
);

it('removes what a killed export left outside of the home', { timeout: operationLimitMs }, async () => {
  const copy = await copyHome(base.path);
  const kill = { point: 'archive.rename:before', hit: 1 };
  expect(await runDriver({ home: copy, act: 'export', kill })).toBe(true);
  const out = join(copy, 'out');
  expect((await readdir(out)).sort()).toEqual([
    expect.stringMatching(/^e\.boxsnap\.opn_\w+\.partial$/),
    'given.boxsnap',
  ]);
  await endMachines(copy, async () => expect(await readdir(out)).toEqual(['given.boxsnap']));
});

it('survives a kill at every point of a garbage collection', { timeout: operationLimitMs }, async () => {
  const home = await copyHome(base.path);
  {
    await using engine = await Engine.open({ home, poolSize: 0 });
    await (await engine.runtime().get('b'))?.snapshot.remove('s1');
    await (await engine.runtime().get('b'))?.remove();
  }
  await killEverywhere(home, 'gc');
  await rm(home, { recursive: true });
});

it('survives a kill at every point of a flatten, and of the repair after it', {
  timeout: operationLimitMs,
}, async () => {
  const home = await copyHome(base.path);
  {
    await using engine = await Engine.open({ home, poolSize: 0 });
    const box = await engine.runtime().get('b');
    for (let i = 0; i < 11; i += 1) {
      await writeBlocks(home, box?.id ?? '', new Map([[i % 6, 20 + i]]));
      await box?.snapshot.create(`d${i}`);
    }
    await writeBlocks(home, box?.id ?? '', new Map([[5, 99]]));
  }
  await killEverywhere(home, 'snapshot');
  // The parent is committed, and the head's header does not name it yet.
  expect(await runDriver({ home, act: 'snapshot', kill: { point: 'header.write:before', hit: 1 } })).toBe(
    true,
  );
  await killEverywhere(home, 'open');
  await rm(home, { recursive: true });
});
