import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { checkWhole, compile, Kills, operationLimitMs, pointsOf, sample } from './crash.js';

let home: TestHome;
const kills = new Kills();

const withRuntime = async <T>(task: (runtime: Runtime, engine: Engine) => Promise<T>): Promise<T> => {
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  return await task(engine.runtime(), engine);
};

async function boxOf(runtime: Runtime): Promise<Box> {
  const box = await runtime.get('b');
  if (!box) throw new Error('the box is gone');
  return box;
}

async function output(box: Box, script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await box.exec(['sh', '-c', script]);
  if (exitCode !== 0) throw new Error(`${script}: ${exitCode} ${stderr}`);
  return stdout.toString().trim();
}

/** A running box `b` with a process, a mark on its disk and the memory snapshot `point`; and an archive of it. */
beforeAll(async () => {
  await compile();
  home = await newHome();
  await withRuntime(async (runtime) => {
    await runtime.images.remove('debian-python');
    const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
    await box.startExec(['sleep', '1000000']);
    await box.files.write('/root/mark', 'still here');
    await box.snapshot.create('point', { memory: true });
    await mkdir(join(home.path, 'out'));
    await box.export(join(home.path, 'out', 'given.boxsnap'), { memory: true });
    await runtime.gc();
    await runtime.verify();
  });
});

afterAll(async () => {
  process.stdout.write(`killed an engine at ${kills.killed} points of memory operations\n`);
  await withRuntime(async (runtime) => {
    for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  });
  await home[Symbol.asyncDispose]();
});

/** Undoes what an act did, so that the next one finds the home as the first did. */
async function reset(isPaused: boolean): Promise<void> {
  await withRuntime(async (runtime) => {
    const box = await boxOf(runtime);
    for (const { id } of await runtime.list()) if (id !== box.id) await runtime.remove(id, { force: true });
    if (await box.snapshot.get('new')) await box.snapshot.remove('new');
    if (await runtime.templates.get('t')) await runtime.templates.remove('t');
    await output(box, 'echo x >> /root/alive; sync');
    await rm(join(home.path, 'out', 'e.boxsnap'), { force: true });
    if (isPaused) await box.pause();
    await runtime.gc();
  });
}

/** Everything that is there works, and it is the same run: nothing booted. */
async function probe(runtime: Runtime, run: string | null, allowed: readonly string[]): Promise<void> {
  const box = await boxOf(runtime);
  const { status, operation, failure } = await box.info();
  expect(allowed, failure ?? '').toContain(status);
  expect(operation).toBeNull();
  expect(await output(box, 'echo x >> /root/alive; sync; cat /root/mark; echo; pidof sleep')).toMatch(
    /^still here\n\d+/,
  );
  expect((await box.info()).run).toBe(run);
  for (const info of await runtime.list()) {
    if (info.id === box.id) continue;
    const child = await runtime.get(info.id);
    expect(info.status).toBe(info.name === 'i' ? 'paused' : 'running');
    expect(info.run).not.toBe(run);
    if (child) expect(await output(child, 'cat /root/mark; echo; pidof sleep')).toMatch(/^still here\n\d+/);
  }
  if (await runtime.templates.get('t')) {
    const made = await runtime.create({ template: 't', name: 'made', detach: true });
    expect(await output(made, 'cat /root/mark')).toBe('still here');
    await made.remove({ force: true });
  }
  if (await box.snapshot.get('new')) await box.snapshot.restore('new', { live: true });
  expect((await box.info()).run).toBe(run);
}

/** Kills the act at a ninth of its points, or at all of them when all is asked for. */
async function killEverywhere(
  act: string,
  options: { isPaused: boolean; allowed: readonly string[] },
): Promise<void> {
  const run = await withRuntime(async (runtime) => {
    const box = await boxOf(runtime);
    await box.exec(['true']);
    return (await box.info()).run;
  });
  await reset(options.isPaused);
  const points = sample(await pointsOf(home.path, act));
  expect(points.length).toBeGreaterThan(0);
  for (const kill of points) {
    await reset(options.isPaused);
    try {
      await kills.run({ home: home.path, act, kill });
      await withRuntime(async (runtime) => {
        await probe(runtime, run, options.allowed);
        await checkWhole(home.path, runtime);
      });
    } catch (error) {
      throw new Error(`${act}, killed at ${kill.point}@${kill.hit}`, { cause: error });
    }
  }
  kills.check();
}

it.each([
  ['pause', { isPaused: false, allowed: ['running', 'paused'] }],
  ['resume', { isPaused: true, allowed: ['running', 'paused'] }],
  ['memory-snapshot', { isPaused: false, allowed: ['running'] }],
  ['rollback', { isPaused: false, allowed: ['running', 'paused'] }],
  ['fork', { isPaused: false, allowed: ['running'] }],
  ['template', { isPaused: false, allowed: ['running'] }],
  ['export-memory', { isPaused: false, allowed: ['running'] }],
  ['import-memory', { isPaused: false, allowed: ['running'] }],
] as const)('survives a kill at the points of %s', { timeout: operationLimitMs }, (act, options) =>
  killEverywhere(act, options),
);
