import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Box, BoxInfo, Runtime } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { mustRun, runCli } from '../support/cli.js';
import { newHome } from '../support/home.js';
import { partOf } from '../support/part.js';
import { withUserfaultfd } from '../support/userfaultfd.js';
import { startEngine } from './engine-process.js';
import { fillMuch, look, pausedAfter, resumeUnsupplied } from './page-servers.js';
import { failureOf, output, TestEngine } from './support.js';

withUserfaultfd();
const engine = new TestEngine();

type Victim = 'machine' | 'page server';

/** A box that has lost its machine while it still got its memory, after it had written a file and synced it. */
interface LostBox {
  readonly box: Box;
  /** What `look` says of the memory and the disk of its pause. */
  readonly before: string;
  readonly info: BoxInfo;
}

const write = {
  script: 'mkdir /root/new && echo newest > /root/new/file && sync',
  undo: 'rm -r /root/new && sync',
};
const readNewest = 'cat /root/new/file';

async function loseMemory(runtime: Runtime, home: string, victim: Victim): Promise<LostBox> {
  const box = await runtime.create({ image: 'tiny', detach: true });
  await output(box, fillMuch);
  const before = await output(box, look);
  await box.pause();
  using server = await resumeUnsupplied(box, home, write);
  const paused = pausedAfter(runtime, box);
  process.kill(victim === 'machine' ? ((await box.info()).pid ?? 0) : server.pid, 'SIGKILL');
  await paused;
  return { box, before, info: await box.info() };
}

/** The failure of something that waits for a decision names what decides. */
async function expectUndecided(call: Promise<unknown>, info: BoxInfo): Promise<void> {
  const { code, message, hint } = await failureOf(call);
  expect(code).toBe('stopped');
  expect(message).toContain(info.failure);
  expect(hint).toContain(`cryobox start --discard-memory ${info.name ?? info.id}`);
  expect(hint).toContain(`cryobox resume ${info.name ?? info.id}`);
}

/** The process of the only machine, once it has one. */
async function machineBeneath(folder: string): Promise<number | undefined> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => '');
    const program = await readlink(`/proc/${pid}/exe`).catch(() => '');
    if (cwd.startsWith(`${folder}/`) && program.includes('qemu')) return Number(pid);
  }
  return undefined;
}

const limits = { timeout: 480_000 };

it.each(partOf(['machine', 'page server'] as const, 2))(
  'keeps what was written after a resume whose %s was lost, and starts from it without the memory',
  limits,
  async (victim) => {
    const { runtime, home } = engine;
    const { box, before, info } = await loseMemory(runtime, home, victim);
    expect(info).toMatchObject({ status: 'paused', pid: null });
    expect(info.failure).toContain(victim);
    expect(info.failure).toContain('kept');
    for (let round = 0; round < 2; round += 1) {
      await expectUndecided(box.exec(['true']), info);
      await expectUndecided(box.files.stat('/root'), info);
      await expectUndecided(box.dial(80), info);
      expect((await failureOf(box.start())).code).toBe('invalid_state');
      await runtime.gc();
      expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
    }
    await box.start({ discardMemory: true });
    expect(await box.info()).toMatchObject({ status: 'running', failure: null });
    expect(await output(box, readNewest)).toBe('newest');
    expect(await output(box, 'cat /root/file')).toBe('kept');
    expect(before).toContain('kept');
    await box.remove({ force: true });
  },
);

it('goes on from the memory with the disks of its moment when that is asked for', limits, async () => {
  const { runtime, home } = engine;
  const { box, before, info } = await loseMemory(runtime, home, 'page server');
  // What comes of the memory alone leaves the box as it is, and the newest disks with it.
  const [child] = await box.fork({ count: 1 });
  if (!child || !('box' in child)) throw new Error('no child');
  expect(await output(child.box, look)).toBe(before);
  expect((await child.box.exec(['sh', '-c', readNewest])).exitCode).not.toBe(0);
  await child.box.remove({ force: true });
  await box.snapshot.create('of-memory', { memory: true });
  // What comes of the disks has the newest ones.
  await box.snapshot.create('of-disks');
  const clone = await box.clone('newest-clone');
  expect(await output(clone, readNewest)).toBe('newest');
  await clone.remove({ force: true });
  expect(await box.info()).toMatchObject({ status: 'paused', failure: info.failure });
  await expectUndecided(box.exec(['true']), info);

  await box.resume();
  expect(await box.info()).toMatchObject({ status: 'running', failure: null });
  expect(await output(box, look)).toBe(before);
  expect((await box.exec(['sh', '-c', readNewest])).exitCode).not.toBe(0);
  await box.snapshot.restore('of-memory', { live: true });
  expect(await output(box, look)).toBe(before);
  await box.stop();
  await box.snapshot.restore('of-disks');
  expect(await output(box, readNewest)).toBe('newest');
  await box.remove({ force: true });
  await runtime.gc();
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
});

it('exports either side, and a stop keeps the newest disks', limits, async () => {
  const { runtime, home } = engine;
  const { box, before } = await loseMemory(runtime, home, 'machine');
  await using place = await newHome();
  const disks = await box.export(join(place.path, 'disks.boxsnap'));
  const memory = await box.export(join(place.path, 'memory.boxsnap'), { memory: true });
  await box.stop();
  expect(await box.info()).toMatchObject({ status: 'stopped', failure: null });
  expect(await output(box, readNewest)).toBe('newest');
  const newest = await runtime.import(disks, { name: 'newest' });
  expect(await output(newest, readNewest)).toBe('newest');
  const older = await runtime.import(memory, { name: 'older', memory: true });
  expect(await output(older, look)).toBe(before);
  for (const it of [box, newest, older]) await it.remove({ force: true });
});

it('gives up both for a snapshot that is gone back to', limits, async () => {
  const { runtime, home } = engine;
  const { box } = await loseMemory(runtime, home, 'machine');
  await box.snapshot.create('point', { memory: true });
  await box.snapshot.restore('point', { live: true });
  expect(await box.info()).toMatchObject({ status: 'running', failure: null });
  await box.remove({ force: true });
  await runtime.gc();
  expect(await readdir(join(home, 'boxes'))).toEqual([]);
});

it('keeps the newest disks when the resume that was to drop them fails', limits, async () => {
  const { runtime, home } = engine;
  const { box, info } = await loseMemory(runtime, home, 'machine');
  const failing = failureOf(box.resume());
  // The machine that comes up is ended before it is in use.
  const machines = join(home, 'machines');
  let pid: number | undefined;
  while (pid === undefined) {
    pid = await machineBeneath(machines);
  }
  process.kill(pid, 'SIGKILL');
  expect((await failing).code).toBe('machine_failed');
  expect(await box.info()).toMatchObject({ status: 'paused', failure: info.failure });
  await runtime.gc();
  await box.start({ discardMemory: true });
  expect(await output(box, readNewest)).toBe('newest');
  await box.remove({ force: true });
});

it.each(partOf(['page server', 'machine'] as const, 2))(
  'keeps them when the engine was killed, and then the %s; REST and the command line say what decides',
  limits,
  async (victim) => {
    await using home = await newHome();
    const first = await startEngine(home.path);
    const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
    const box = await client.create({ image: 'tiny', name: 'b', detach: true });
    await output(box, fillMuch);
    await box.pause();
    using server = await resumeUnsupplied(box, home.path, write);
    const { pid } = await box.info();
    process.kill(first.pid, 'SIGKILL');
    await first.exited;
    process.kill(victim === 'machine' ? (pid ?? 0) : server.pid, 'SIGKILL');
    {
      await using second = await Engine.open({ home: home.path, poolSize: 0 });
      await second.runtime().gc();
    }
    const third = await startEngine(home.path);
    const info = await box.info();
    expect(info).toMatchObject({ status: 'paused', pid: null });
    expect(info.failure).toContain('no engine was there');
    await expectUndecided(box.exec(['true']), info);
    const command = await runCli(home.path, 'exec', 'b', 'true');
    expect(command.exitCode).toBe(125);
    expect(command.stderr).toContain(info.failure);
    expect(command.stderr).toContain('cryobox resume b');
    await mustRun(home.path, 'start', '--discard-memory', 'b');
    expect(await mustRun(home.path, 'exec', 'b', 'cat', '/root/new/file')).toBe('newest\n');
    await mustRun(home.path, 'rm', '--force', 'b');
    await client.gc();
    expect(await client.verify()).toMatchObject({ ok: true, problems: [] });
    await client.close();
    process.kill(third.pid, 'SIGTERM');
    await third.exited;
  },
);
