import { execFile } from 'node:child_process';
import { mkdir, readdir, readlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { Runtime } from '../../src/api/index.js';
import { failureOf, TestEngine } from './support.js';

const engine = new TestEngine();
const run = promisify(execFile);

/** Resolves when a box is said to have changed so; listens from now on. */
async function changed(runtime: Runtime, boxId: string, change: string): Promise<boolean> {
  for await (const event of runtime.events()) if (event.id === boxId && event.change === change) return true;
  return false;
}

it('fails an exec within a second when its machine is killed, and the box says why', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  const execution = await box.startExec(['sh', '-c', 'echo last words > /dev/console; echo up; sleep 1000']);
  for await (const chunk of execution.stdout) {
    expect(Buffer.from(chunk).toString()).toBe('up\n');
    break;
  }
  const { pid } = await box.info();
  const running = failureOf(box.exec(['sleep', '1000']));
  const failed = changed(runtime, box.id, 'failed');
  const started = performance.now();
  process.kill(pid ?? 0, 'SIGKILL');
  const failure = await running;
  expect(failure.code).toBe('machine_failed');
  expect(performance.now() - started).toBeLessThan(1000);
  expect((await failureOf(execution.wait())).code).toBe('machine_failed');

  expect(await failed).toBe(true);
  const info = await box.info();
  expect(info).toMatchObject({ status: 'failed', pid: null, run: null });
  expect(info.failure).toContain('last words');
  expect(await box.consoleLog()).toContain('last words');
  expect((await failureOf(box.exec(['true']))).code).toBe('invalid_state');

  await box.start();
  expect((await box.info()).failure).toBeNull();
  expect((await box.exec(['echo', 'again'])).stdout.toString()).toBe('again\n');
});

it('tells who comes while a killed machine ends that the box has failed, and starts it again', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  // The host takes a while to end a process with much memory, and closes its files first.
  await box.exec(['sh', '-c', 'dd if=/dev/zero of=/dev/shm/much bs=1M count=150']);
  const { pid } = await box.info();
  const running = failureOf(box.exec(['sleep', '1000']));
  process.kill(pid ?? 0, 'SIGKILL');
  expect((await running).code).toBe('machine_failed');
  expect((await failureOf(box.exec(['true']))).code).toBe('invalid_state');
  await box.start();
  expect((await box.exec(['echo', 'again'])).stdout.toString()).toBe('again\n');
}, 120_000);

it('takes a guest that powers itself off for stopped', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  const stopped = changed(runtime, box.id, 'stopped');
  await failureOf(box.exec(['sh', '-c', 'echo o > /proc/sysrq-trigger; sleep 100']));
  expect(await stopped).toBe(true);
  expect((await box.info()).status).toBe('stopped');
});

it('keeps machines in directories of their own, as users of their own, without privileges', async () => {
  const { runtime } = engine;
  await using one = await runtime.create({ image: 'tiny' });
  await using two = await runtime.create({ image: 'tiny' });
  const { readFile } = await import('node:fs/promises');
  const statusOf = async (pid: number | null): Promise<string> =>
    await readFile(`/proc/${pid}/status`, 'utf8');
  const uidOf = (status: string): string => /^Uid:\s+(\d+)/m.exec(status)?.[1] ?? '';
  const [first, second] = [await statusOf((await one.info()).pid), await statusOf((await two.info()).pid)];
  expect(first).toMatch(/^Seccomp:\s+2$/m);
  if (process.getuid?.() === 0) {
    expect(first).toMatch(/^CapEff:\s+0+$/m);
    expect(uidOf(first)).not.toBe('0');
    expect(uidOf(first)).not.toBe(uidOf(second));
  }
});

it('lets nothing of a box behind when it is removed', async () => {
  const { runtime } = engine;
  const { readdir } = await import('node:fs/promises');
  const { isAlive } = await import('../../src/machine/index.js');
  const { identify } = await import('../../src/machine/process.js');
  const filesOf = async (folder: string): Promise<string[]> =>
    (await readdir(`${engine.home}/${folder}`)).sort();
  await runtime.gc();
  const before = {
    machines: await filesOf('machines'),
    layers: await filesOf('layers'),
    boxes: await filesOf('boxes'),
  };
  const box = await runtime.create({ image: 'tiny' });
  const { pid } = await box.info();
  const process = await identify(pid ?? 0);
  expect(await filesOf('layers')).not.toEqual(before.layers);
  await box.remove({ force: true });
  await runtime.gc();
  const after = {
    machines: await filesOf('machines'),
    layers: await filesOf('layers'),
    boxes: await filesOf('boxes'),
  };
  expect(after).toEqual(before);
  expect(process && (await isAlive(process))).toBe(false);
  expect((await runtime.gc()).removed).toEqual([]);
  expect(await runtime.get(box.id)).toBeNull();
});

it('never takes the end of a machine for that of the one after it', { timeout: 120_000 }, async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  for (let round = 0; round < 5; round += 1) {
    const { pid } = await box.info();
    process.kill(pid ?? 0, 'SIGKILL');
    while ((await box.info()).pid === pid) await new Promise(setImmediate);
    await delay(round * 5);
    await box.start();
    expect((await box.exec(['echo', 'up'])).stdout.toString()).toBe('up\n');
    const info = await box.info();
    expect(info).toMatchObject({ status: 'running', failure: null });
    expect(info.pid).not.toBe(pid);
  }
});

it.runIf(process.getuid?.() === 0)(
  'records an end though what the machine left cannot be removed',
  async () => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    const before = new Set(await readdir(`${engine.home}/machines`));
    const { pid } = await box.info();
    const directory = await readlink(`/proc/${pid}/cwd`);
    expect(before.has(basename(directory))).toBe(true);
    const busy = `${directory}/busy`;
    await mkdir(busy);
    await run('mount', ['-t', 'tmpfs', 'none', busy]);
    const failed = changed(runtime, box.id, 'failed');
    try {
      process.kill(pid ?? 0, 'SIGKILL');
      expect(await failed).toBe(true);
      expect(await box.info()).toMatchObject({ status: 'failed', pid: null });
      await box.start();
      expect((await box.exec(['true'])).exitCode).toBe(0);
    } finally {
      await run('umount', [busy]);
    }
    // Nothing tells when it has been tried again.
    for (let left = true; left; await delay(50)) {
      left = (await readdir(`${engine.home}/machines`)).includes(basename(directory));
    }
  },
);
