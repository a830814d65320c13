import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { withDatabase } from '../engine/disk-files.js';
import { fillMuch, look, pausedAfter, resumeUnsupplied } from '../engine/page-servers.js';
import { output } from '../engine/support.js';
import { newHome, type TestHome } from '../support/home.js';
import { withUserfaultfd } from '../support/userfaultfd.js';
import {
  checkWhole,
  compile,
  copyHome,
  Kills,
  operationLimitMs,
  pointsOf,
  runDriver,
  sample,
} from './crash.js';

withUserfaultfd();
let base: TestHome;
/** What the memory of the box holds. */
let before = '';
const kills = new Kills();

/** A paused box `b`, whose memory takes seconds to be fetched. */
beforeAll(async () => {
  await compile();
  base = await newHome();
  await using engine = await Engine.open({ home: base.path, poolSize: 0 });
  const runtime = engine.runtime();
  await runtime.images.remove('debian-python');
  const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
  await output(box, fillMuch);
  before = await output(box, look);
  await box.pause();
  await runtime.gc();
  await runtime.verify();
});

afterAll(async () => {
  process.stdout.write(`killed an engine at ${kills.killed} points of losing a machine and deciding\n`);
  await base[Symbol.asyncDispose]();
});

async function boxOf(runtime: Runtime): Promise<Box> {
  const box = await runtime.get('b');
  if (!box) throw new Error('the box is gone');
  return box;
}

/** The base with a box that has lost its machine, after it had written `/root/newest`. */
async function undecidedHome(): Promise<string> {
  const home = await copyHome(base.path);
  await using engine = await Engine.open({ home, poolSize: 0 });
  const box = await boxOf(engine.runtime());
  using _server = await resumeUnsupplied(box, home, {
    script: 'echo newest > /root/newest; sync',
    undo: 'rm /root/newest; sync',
  });
  const paused = pausedAfter(engine.runtime(), box);
  process.kill((await box.info()).pid ?? 0, 'SIGKILL');
  await paused;
  await engine.runtime().gc();
  return home;
}

type Side = 'undecided' | 'memory' | 'disks';

/** Which of the sides of a box there are; what is there is whole. */
async function sideOf(runtime: Runtime): Promise<Side> {
  const box = await boxOf(runtime);
  const { status, failure } = await box.info();
  const isUndecided = status === 'paused' && failure !== null;
  if (isUndecided) {
    const [child] = await box.fork({ count: 1 });
    if (!child || !('box' in child)) throw new Error('no child', { cause: child?.error });
    expect(await output(child.box, look)).toBe(before);
    await child.box.remove({ force: true });
    await box.start({ discardMemory: true });
    expect(await output(box, 'cat /root/newest')).toBe('newest');
    return 'undecided';
  }
  const { stdout } = await box.exec(['cat', '/root/newest']);
  if (stdout.toString() === 'newest\n') return 'disks';
  expect(await output(box, look)).toBe(before);
  return 'memory';
}

async function checkSide(home: string, allowed: readonly Side[]): Promise<void> {
  await using engine = await Engine.open({ home, poolSize: 0 });
  const runtime = engine.runtime();
  expect(allowed).toContain(await sideOf(runtime));
  await runtime.remove('b', { force: true });
  await checkWhole(home, runtime);
}

async function killEverywhere(act: string, from: string, allowed: readonly Side[]): Promise<void> {
  const whole = await copyHome(from);
  const points = sample(await pointsOf(whole, act));
  expect(points.length).toBeGreaterThan(0);
  await checkSide(whole, allowed);
  await rm(whole, { recursive: true });
  for (const kill of points) {
    const home = await copyHome(from);
    try {
      await kills.run({ home, act, kill });
      await checkSide(home, allowed);
    } catch (error) {
      throw new Error(`${act}, killed at ${kill.point}@${kill.hit}`, { cause: error });
    } finally {
      await rm(home, { recursive: true });
    }
  }
  kills.check();
}

it.each([
  ['resume', ['undecided', 'memory']],
  ['start-newest', ['undecided', 'disks']],
] as const)(
  'keeps both sides of an undecided box until a %s is done',
  { timeout: operationLimitMs },
  async (act, allowed) => {
    const home = await undecidedHome();
    await killEverywhere(act, home, allowed);
    await rm(home, { recursive: true });
  },
);

it('keeps what was written when the engine is killed while it notices a loss', {
  timeout: operationLimitMs,
}, async () => {
  await killEverywhere('lose', base.path, ['undecided']);
});

/** Writes the time into a file and syncs it, for ever. */
const writer = 'while true; do date +%s > /root/n; sync; sleep 0.05; done';

it('finds what a machine wrote into a head that no commit knows, after both have ended', {
  timeout: operationLimitMs,
}, async () => {
  const home = await copyHome(base.path);
  let pid = 0;
  {
    await using engine = await Engine.open({ home, poolSize: 0 });
    const box = await boxOf(engine.runtime());
    await box.start({ discardMemory: true });
    await box.startExec(['sh', '-c', writer]);
    await output(box, 'until [ -e /root/n ]; do sleep 0.05; done');
    pid = (await box.info()).pid ?? 0;
  }
  const known = await withDatabase(home, (db) => db.selectFrom('layers').select('id').execute());
  const ids = new Set(known.map(({ id }) => id));
  expect(await runDriver({ home, act: 'snapshot', kill: { point: 'commit:before', hit: 1 } })).toBe(true);
  const killedAt = Date.now();
  const [unknown = ''] = (await readdir(join(home, 'layers'))).filter((id) => !ids.has(id));
  // The guest writes on; what it has synced is in the file.
  while ((await stat(join(home, 'layers', unknown))).mtimeMs < killedAt + 3_000) await sleep(50);
  process.kill(pid, 'SIGKILL');
  await using engine = await Engine.open({ home, poolSize: 0 });
  const box = await boxOf(engine.runtime());
  await box.start();
  expect(Number(await output(box, 'cat /root/n')) * 1000).toBeGreaterThan(killedAt);
  expect(await box.snapshot.list()).toEqual([]);
  await box.remove({ force: true });
  await checkWhole(home, engine.runtime());
  await rm(home, { recursive: true });
});
