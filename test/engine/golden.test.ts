import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.js';
import { Engine } from '../../src/engine/index.js';
import { CryoboxError } from '../../src/errors.js';
import { newHome } from '../support/home.js';
import { withDatabase } from './disk-files.js';
import { failureOf } from './support.js';

const memoryMiB = 192;

it('boots a golden machine once, however many boxes of a new shape are asked for at once', async () => {
  await using home = await newHome();
  const booted: unknown[] = [];
  const info = (message: string, facts?: unknown): void => {
    if (message === 'booting a golden machine') booted.push(facts);
  };
  await using engine = await Engine.open({ home: home.path, poolSize: 1, logger: { ...silentLogger, info } });
  const runtime = engine.runtime();
  const boxes = await Promise.all([1, 2, 3].map(() => runtime.create({ image: 'tiny', memoryMiB })));
  const accelerator = expect.stringMatching(/^(kvm|tcg)$/);
  expect(booted).toEqual([{ architecture: process.arch, cpus: 1, memoryMiB, accelerator }]);
  const totals = await Promise.all(boxes.map((box) => box.exec(['sh', '-c', 'grep MemTotal /proc/meminfo'])));
  for (const { stdout } of totals) {
    const kib = Number(/(\d+)/.exec(stdout.toString())?.[1]);
    expect(kib).toBeLessThan(memoryMiB * 1024);
    expect(kib).toBeGreaterThan((memoryMiB * 1024) / 2);
  }
  for (const box of boxes) await box.remove({ force: true });
});

it('gives a box the processors it asks for', async () => {
  await using home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  await using box = await engine.runtime().create({ image: 'tiny', cpus: 2, memoryMiB });
  const { stdout } = await box.exec(['sh', '-c', 'grep -c ^processor /proc/cpuinfo']);
  expect(stdout.toString()).toBe('2\n');
});

it('uses the accelerator that is asked for, and refuses what is none', async () => {
  const before = process.env['CRYOBOX_ACCELERATOR'];
  await using home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  try {
    process.env['CRYOBOX_ACCELERATOR'] = 'xen';
    const failure = await failureOf(engine.runtime().create({ image: 'tiny' }));
    expect(failure).toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('auto, kvm or tcg'),
    });
  } finally {
    if (before === undefined) delete process.env['CRYOBOX_ACCELERATOR'];
    else process.env['CRYOBOX_ACCELERATOR'] = before;
  }
});

it('ends up on emulation by itself where KVM does not boot a machine, and remembers it', async () => {
  const { chooseAccelerator } = await import('../../src/engine/machines/accelerator.js');
  const cache = await mkdtemp(join(tmpdir(), 'cryobox-cache-'));
  const before = process.env['CRYOBOX_CACHE'];
  process.env['CRYOBOX_CACHE'] = cache;
  try {
    let trials = 0;
    const fails = async (): Promise<void> => {
      trials += 1;
      throw new Error('the guest hangs');
    };
    expect(await chooseAccelerator('test', silentLogger, fails)).toBe('tcg');
    const tried = trials;
    expect(await chooseAccelerator('test', silentLogger, fails)).toBe('tcg');
    expect(trials).toBe(tried);
    expect(await chooseAccelerator('another QEMU', silentLogger, async () => undefined)).toMatch(
      /^(kvm|tcg)$/,
    );
  } finally {
    if (before === undefined) delete process.env['CRYOBOX_CACHE'];
    else process.env['CRYOBOX_CACHE'] = before;
    await rm(cache, { recursive: true });
  }
});

it('takes nothing for a failure of KVM that is none of the machine, and tries again', async () => {
  const { chooseAccelerator } = await import('../../src/engine/machines/accelerator.js');
  const cache = await mkdtemp(join(tmpdir(), 'cryobox-cache-'));
  const before = process.env['CRYOBOX_CACHE'];
  process.env['CRYOBOX_CACHE'] = cache;
  try {
    const reasons = [
      new CryoboxError('disk_full', 'no room for the memory of a golden machine'),
      Object.assign(new Error('no such file'), { code: 'ENOENT' }),
    ];
    for (const reason of reasons) {
      const tried = chooseAccelerator('test', silentLogger, () => Promise.reject(reason));
      // Without a device that can be opened nothing is tried at all.
      const outcome = await tried.catch((error: unknown) => error);
      expect([reason, 'tcg']).toContain(outcome);
      if (outcome === reason) expect(await readdir(cache)).toEqual([]);
    }
  } finally {
    if (before === undefined) delete process.env['CRYOBOX_CACHE'];
    else process.env['CRYOBOX_CACHE'] = before;
    await rm(cache, { recursive: true });
  }
});

it('forgets golden machines and files that this release would make otherwise', async () => {
  await using home = await newHome();
  const old = ['gateway', 'guard', 'initramfs', 'kernel'].map((name) => `guest/${name}-0123456789abcdef`);
  for (const path of old) await writeFile(join(home.path, path), 'of an earlier release');
  await withDatabase(home.path, async (db) => {
    const row = await db.selectFrom('goldens').selectAll().executeTakeFirstOrThrow();
    // Everything is the same but the form in which it is kept, which is in the key only.
    await db
      .insertInto('goldens')
      .values({ ...row, key: 'f'.repeat(32) })
      .execute();
  });
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const { removed } = await engine.runtime().gc();
  expect(removed.map(({ path }) => path)).toEqual(expect.arrayContaining(old));
  expect(await readdir(join(home.path, 'guest'))).toHaveLength(4);
  const keys = await withDatabase(home.path, (db) => db.selectFrom('goldens').select('key').execute());
  expect(keys.map(({ key }) => key)).not.toContain('f'.repeat(32));
  await using box = await engine.runtime().create({ image: 'tiny' });
  expect((await box.exec(['true'])).exitCode).toBe(0);
});

it('lets go of shapes that nobody has, and refuses more shapes than a home keeps', {
  timeout: 180_000,
}, async () => {
  await using home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0, poolIdleMs: 1, maxGoldens: 2 });
  const runtime = engine.runtime();
  const boxOf = (memoryMiB: number) => runtime.create({ image: 'tiny', memoryMiB });
  const first = await boxOf(129);
  expect(await failureOf(boxOf(130))).toMatchObject({
    code: 'resource_exhausted',
    message: expect.stringContaining('130 MiB'),
    hint: expect.stringContaining('cryobox gc'),
  });
  // What a box has stays, and so does the default shape.
  await runtime.gc();
  expect((await first.exec(['true'])).exitCode).toBe(0);
  await first.remove({ force: true });
  const planned = await runtime.gc({ dryRun: true });
  expect(planned.freedBytes).toBeGreaterThan(50 * 2 ** 20);
  const removed = await runtime.gc();
  expect(removed.freedBytes).toBeGreaterThan(50 * 2 ** 20);
  expect((await runtime.gc({ dryRun: true })).freedBytes).toBe(0);
  const second = await boxOf(130);
  expect((await second.exec(['true'])).exitCode).toBe(0);
  await second.remove({ force: true });
});
