import { chmod, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { machinesBelow } from '../../src/machine/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { newHome } from '../support/home.js';
import { groupOf, limitOpenFiles, lowestFreeDescriptorOf } from '../support/limits.js';
import { temporaryDirectory } from '../support/temporary.js';
import { startEngine } from './engine-process.js';
import { failureOf, output } from './support.js';
import { tightHome } from './tight-disk.js';

/** Takes away the descriptors that the test itself was given, which lie above a gap. */
const close =
  'for f in /proc/self/fd/*; do n=$(basename $f); [ $n -gt 3 ] && eval "exec $n>&-"; done; exec "$@"';
const withoutOthers = ['bash', '-c', close, 'bash'];

interface Served extends AsyncDisposable {
  readonly home: string;
  readonly pid: number;
  readonly runtime: ReturnType<typeof connectRuntime>;
}

/** An engine in a process of its own; it must still be the same one at the end. */
async function serve(through: readonly string[] = []): Promise<Served> {
  const home = await newHome();
  const engine = await startEngine(home.path, through);
  const runtime = connectRuntime({ socketPath: `${home.path}/engine.sock` });
  let ended = false;
  const exited = engine.exited.then(() => {
    ended = true;
  });
  return {
    home: home.path,
    pid: engine.pid,
    runtime,
    [Symbol.asyncDispose]: async () => {
      await runtime.close();
      const died = ended;
      if (!died) process.kill(engine.pid, 'SIGTERM');
      await exited;
      await home[Symbol.asyncDispose]();
      if (died) throw new Error('the engine ended by itself');
    },
  };
}

/** Machines of a home that no folder of a live machine belongs to, or that no row knows. */
async function machineProcesses(home: string): Promise<number> {
  return (await machinesBelow(join(home, 'machines'))).length;
}

it('lives on without prlimit, and says which package it is in', async () => {
  const tools = await temporaryDirectory();
  // Machines run as users of their own.
  await chmod(tools, 0o755);
  for (const folder of (process.env.PATH ?? '').split(':')) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (name !== 'prlimit') await symlink(join(folder, name), join(tools, name)).catch(() => undefined);
    }
  }
  await using served = await serve(['env', `PATH=${tools}`]);
  for (let times = 0; times < 2; times += 1) {
    const failure = await failureOf(served.runtime.create({ image: 'tiny' }));
    expect(failure).toMatchObject({ code: 'config_error', hint: 'Install it: apt-get install util-linux' });
    expect(failure.message).toContain('prlimit');
  }
  expect(await served.runtime.list()).toEqual([]);
  await symlink('/usr/bin/prlimit', join(tools, 'prlimit'));
  await using box = await served.runtime.create({ image: 'tiny' });
  expect(await output(box, 'echo here')).toBe('here');
});

it('lives on where it may start no more processes, and starts boxes again when it may', async () => {
  await using served = await serve();
  const { runtime, pid } = served;
  await using group = await groupOf(pid);
  await using box = await runtime.create({ image: 'tiny' });
  const before = (await runtime.list()).length;
  const codes = new Set<string>();
  for (let times = 0; times < 3; times += 1) {
    // What has ended meanwhile left room.
    await group.close();
    const { code, message } = await failureOf(runtime.create({ image: 'tiny' }));
    codes.add(code === 'resource_exhausted' ? code : message);
  }
  expect([...codes]).toEqual(['resource_exhausted']);
  expect(await output(box, 'echo lives')).toBe('lives');
  expect(await runtime.list()).toHaveLength(before);
  await group.open();
  await using other = await runtime.create({ image: 'tiny' });
  expect(await output(other, 'echo here')).toBe('here');
});

it('lives on where it may open no more files, and leaves no machine behind', {
  timeout: 240_000,
}, async () => {
  await using served = await serve(withoutOthers);
  const { runtime, pid, home } = served;
  {
    // What is opened once, on first use, is open from here on.
    await using box = await runtime.create({ image: 'tiny' });
    await output(box, 'true');
  }
  const lowest = await lowestFreeDescriptorOf(pid);
  const seen = new Set<string>();
  for (let room = 0; room < 32; room += 1) {
    await limitOpenFiles(pid, lowest + room);
    try {
      const box = await runtime.create({ image: 'tiny' });
      await limitOpenFiles(pid, 4096);
      await box.remove({ force: true });
      seen.add('made');
    } catch (error) {
      const { code } = error as { code: string };
      seen.add(code);
      expect(['resource_exhausted', 'network_unavailable', 'storage_error', 'machine_failed']).toContain(
        code,
      );
    }
    await limitOpenFiles(pid, 4096);
    expect(await runtime.list()).toEqual([]);
  }
  expect(seen).toContain('resource_exhausted');
  await using box = await runtime.create({ image: 'tiny' });
  expect(await output(box, 'echo here')).toBe('here');
  // That of the box, one that waits for the next box, and no other.
  await expect.poll(() => machineProcesses(home), { timeout: 20_000 }).toBeLessThanOrEqual(2);
  const unknown = async (): Promise<number> =>
    (await readdir(join(home, 'machines'))).length - (await machineProcesses(home));
  // A directory that could not be listed then is removed a moment later.
  await expect.poll(unknown, { timeout: 20_000 }).toBe(0);
});

it('lives on when machines that wait cannot be struck off a full database', {
  timeout: 180_000,
}, async () => {
  await using home = await tightHome(900);
  const warnings: string[] = [];
  let warned: () => void = () => undefined;
  const refused = new Promise<void>((resolve) => {
    warned = resolve;
  });
  const say = (): void => undefined;
  const logger = {
    debug: say,
    info: say,
    error: say,
    warn: (message: string, facts?: Record<string, unknown>) => {
      warnings.push(`${message} ${facts?.reason}`);
      if (/record its end/.test(message)) warned();
    },
  };
  // Longer than a busy host takes to fill the disk: a machine that ends before is struck off.
  await using engine = await Engine.open({ home: home.path, poolSize: 1, poolIdleMs: 30_000, logger });
  const runtime = engine.runtime();
  await using box = await runtime.create({ image: 'tiny' });
  await expect.poll(() => machineProcesses(home.path), { timeout: 30_000 }).toBe(2);
  await home.fill(0);
  // Whatever of its log the database has room for already is used up.
  for (let n = 0; n < 2000; n += 1) {
    const full = await runtime.volumes
      .create({ name: `v${n}`, sizeGb: 1 })
      .then(() => false)
      .catch(() => true);
    if (full) break;
  }
  await refused;
  expect(warnings.join('\n')).toContain('full');
  expect((await runtime.list()).map(({ id }) => id)).toEqual([box.id]);
  await home.empty();
  await using other = await runtime.create({ image: 'tiny' });
  expect(await output(other, 'echo here')).toBe('here');
});
