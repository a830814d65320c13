import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { recoverHome } from '../../src/home/recover.js';
import { openDatabase } from '../../src/store/index.js';
import { copyHome } from '../crash/crash.js';
import { output } from '../engine/support.js';
import { builtEntry } from '../support/built.js';
import type { TestHome } from '../support/home.js';
import { partOf } from '../support/part.js';
import { leanHome, untilReplicated } from './support.js';

const limitMs = 300_000;
/** Where an engine that replicates, and a recovery, are killed; `npm run test:replicas` takes every one. */
const some = (points: readonly string[]) =>
  process.env.CRYOBOX_REPLICAS === 'all' ? points : partOf(points, points.length);
const whileReplicating = [
  'replica.layer:before',
  'replica.layer:after',
  'replica.layer:after@3',
  'replica.index:after',
  'replica.manifest:before',
  'replica.manifest:after',
  'commit:before',
  'commit:after@2',
];
const whileRecovering = [
  'recover.layer:after',
  'recover.layer:after@3',
  'layer.seal:after@2',
  'recover.blob:after',
  'head.create:after',
  'recover.claim:after',
  'commit:before',
  'commit:after',
];

let folder: string;
let home: TestHome;
let boxId: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cryobox-kills-'));
  home = await leanHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().create({ image: 'tiny', name: 'kept', detach: true });
  await output(box, 'echo kept > /root/file');
  await box.stop();
  boxId = box.id;
}, limitMs);
afterAll(async () => {
  await home[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Runs a command that is to be killed at a point; it may come to its end before. */
async function killed(
  args: readonly string[],
  fault: string,
  env: Record<string, string> = {},
): Promise<boolean> {
  const entry = await builtEntry('cli/main.ts');
  const child = spawn(process.execPath, [entry, ...args], {
    env: { ...process.env, ...env, CRYOBOX_FAULT: fault },
    stdio: 'ignore',
    timeout: 200_000,
  });
  const [, signal] = await once(child, 'exit');
  return signal === 'SIGKILL';
}

/** What comes back of the box: nothing, or all of it. */
async function comesBack(store: string): Promise<void> {
  const path = await mkdtemp(join(folder, 'back-'));
  const back = await recoverHome(path, store);
  expect(back.boxes.map(({ id }) => id)).toEqual([boxId]);
  await using engine = await Engine.open({ home: path, poolSize: 0 });
  const box = await engine.runtime().get('kept');
  if (!box) throw new Error('the box is gone');
  expect((await engine.runtime().verify()).problems).toEqual([]);
  await box.start();
  expect(await output(box, 'cat /root/file')).toBe('kept');
  await box.remove({ force: true });
}

it.each(some(whileReplicating))(
  'an engine killed at %s leaves nothing half in the store',
  async (point) => {
    const store = await mkdtemp(join(folder, 'store-'));
    const place = await copyOfHome();
    const env = { CRYOBOX_HOME: place, CRYOBOX_REPLICATE: store };
    expect(await killed(['engine', 'run'], point, env)).toBe(true);
    // As much as is there comes back: the box, or none.
    const now = await recoverHome(await mkdtemp(join(folder, 'now-')), await copyOf(store)).catch(
      (error: unknown) => error,
    );
    if (now instanceof Error) expect(now).toMatchObject({ code: 'not_found' });
    else expect([[], [boxId]]).toContainEqual((now as { boxes: { id: string }[] }).boxes.map(({ id }) => id));
    {
      await using engine = await Engine.open({ home: place, poolSize: 0, replicate: { address: store } });
      const box = await engine.runtime().get('kept');
      if (!box) throw new Error('the box is gone');
      await untilReplicated(box);
    }
    await comesBack(store);
  },
  limitMs,
);

it.each(some(whileRecovering))(
  'a recovery killed at %s leaves a home as empty as before, or whole',
  async (point) => {
    const store = await mkdtemp(join(folder, 'store-'));
    {
      const place = await copyOfHome();
      await using engine = await Engine.open({ home: place, poolSize: 0, replicate: { address: store } });
      const box = await engine.runtime().get('kept');
      if (!box) throw new Error('the box is gone');
      await untilReplicated(box);
    }
    const path = await mkdtemp(join(folder, 'cut-'));
    expect(await killed(['--home', path, 'recover', store], point)).toBe(true);
    const db = await openDatabase(join(path, 'cryobox.db'));
    const rows = await db.selectFrom('boxes').select('id').execute();
    await db.destroy();
    if (rows.length === 0) await recoverHome(path, store);
    else expect(point).toBe('commit:after');
    await using engine = await Engine.open({ home: path, poolSize: 0, replicate: { address: store } });
    const box = await engine.runtime().get('kept');
    if (!box) throw new Error('the box is gone');
    await untilReplicated(box);
    expect((await engine.runtime().verify()).problems).toEqual([]);
    await box.start();
    expect(await output(box, 'cat /root/file')).toBe('kept');
    await box.remove({ force: true });
  },
  limitMs,
);

async function copyOfHome(): Promise<string> {
  const path = await copyHome(home.path);
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function copyOf(store: string): Promise<string> {
  const copy = await mkdtemp(join(folder, 'copy-'));
  await cp(store, copy, { recursive: true });
  return copy;
}
