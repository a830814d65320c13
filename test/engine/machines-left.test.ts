import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { newId } from '../../src/base/ids.js';
import { type StartedProcess, startProcess } from '../../src/base/process/index.js';
import { hostBootId, identify, isAlive, type ProcessIdentity } from '../../src/machine/index.js';
import { withDatabase } from './disk-files.js';
import { output, TestEngine } from './support.js';

const engine = new TestEngine({ poolSize: 1 });

/** A process that ends when it is killed. */
async function sleeping(): Promise<{ child: StartedProcess; identity: ProcessIdentity }> {
  const child = await startProcess('sleep', { args: ['1000'] });
  const identity = await identify(child.pid);
  if (!identity) throw new Error('it ended at once');
  return { child, identity };
}

/** What a machine leaves when nobody completes its end: a directory with files, and a row where `process` is given. */
async function leaveMachine(process?: ProcessIdentity, boxId: string | null = null): Promise<string> {
  const id = newId('mch');
  await mkdir(join(engine.home, 'machines', id), { recursive: true });
  await writeFile(join(engine.home, 'machines', id, 'qemu.log'), 'left');
  if (!process) return id;
  const row = {
    ...{ id, box_id: boxId, memory_id: null, base_layer: null, pager_pid: null, pager_ticks: null },
    ...{ gateway_pid: null, gateway_ticks: null, gateway_token: null, uid: null, gid: null },
    ...{ pid: process.pid, start_ticks: process.startTicks, host_boot: await hostBootId(), created_at: 1 },
  };
  await withDatabase(engine.home, (db) => db.insertInto('machines').values(row).execute());
  return id;
}

async function knownMachines(): Promise<{ folders: string[]; rows: string[] }> {
  const rows = await withDatabase(engine.home, (db) => db.selectFrom('machines').select('id').execute());
  const folders = await readdir(join(engine.home, 'machines'));
  return { folders: folders.sort(), rows: rows.map(({ id }) => id).sort() };
}

it('collects what machines left that nobody has, and no machine that somebody has', {
  timeout: 120_000,
}, async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  // That of the box, and the one that waits for the next one.
  await expect.poll(async () => (await knownMachines()).rows.length, { timeout: 20_000 }).toBe(2);
  const before = await knownMachines();
  const ended = await sleeping();
  ended.child.kill();
  await ended.child.exited;
  const living = await sleeping();
  await using _ = living.child;
  const without = await leaveMachine();
  const dead = await leaveMachine(ended.identity);
  const alive = await leaveMachine(living.identity);
  const dry = await runtime.gc({ dryRun: true });
  expect(dry.removed.map(({ path }) => path)).toEqual(
    expect.arrayContaining([`machines/${without}`, `machines/${dead}`]),
  );
  expect(await isAlive(living.identity)).toBe(true);
  await runtime.gc();
  await living.child.exited;
  await runtime.gc();
  expect(await knownMachines()).toEqual(before);
  expect((await readdir(join(engine.home, 'machines'))).includes(alive)).toBe(false);
  expect(await output(box, 'echo here')).toBe('here');
});

it('leaves nothing of a former machine of a box that is started', { timeout: 120_000 }, async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  await box.stop();
  const living = await sleeping();
  await using _ = living.child;
  const former = await leaveMachine(living.identity, box.id);
  await box.start();
  expect(await identify(living.identity.pid)).toBeUndefined();
  expect((await readdir(join(engine.home, 'machines'))).includes(former)).toBe(false);
});
