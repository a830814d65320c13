import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { silentLogger } from '../../src/base/log.js';
import { Engine } from '../../src/engine/index.js';
import { newHome } from '../support/home.js';
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
  expect(booted).toEqual([{ cpus: 1, memoryMiB, accelerator: expect.stringMatching(/^(kvm|tcg)$/) }]);
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
