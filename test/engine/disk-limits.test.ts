import { expect, it } from 'vitest';
import { z } from 'zod';
import type { Box, DiskLimits } from '../../src/api/index.js';
import { QmpClient } from '../../src/machine/index.js';
import { failureOf, output, TestEngine } from './support.js';

const engine = new TestEngine();

const block = z.object({
  qdev: z.string(),
  inserted: z.object({
    group: z.string().optional(),
    bps_rd: z.number(),
    bps_wr: z.number(),
    iops_rd: z.number(),
    iops_wr: z.number(),
  }),
});

/** What the machine of a box keeps for each of its disks: bytes and operations, read and written. */
async function kept(box: Box): Promise<Set<string>> {
  const { pid } = await box.info();
  await using qmp = await QmpClient.connect(`/proc/${pid}/cwd/qmp.sock`);
  const devices = await qmp.queryList('query-block', block);
  expect(devices.length).toBe(6);
  return new Set(
    devices.map(({ inserted: it }) => `${it.group} ${it.bps_rd} ${it.bps_wr} ${it.iops_rd} ${it.iops_wr}`),
  );
}

const unlimited = new Set(['undefined 0 0 0 0']);

/** How long a command in a box takes, in milliseconds. */
async function timed(box: Box, script: string): Promise<number> {
  const started = performance.now();
  await output(box, script);
  return performance.now() - started;
}

const write = 'dd if=/dev/zero of=/root/file bs=64k count=24 conv=fsync 2>&1';
const read = 'echo 3 > /proc/sys/vm/drop_caches; dd if=/root/file of=/dev/null bs=64k 2>&1';
const half = 512 * 1024;

it('a box reads and writes no faster than its limits, until they are lifted', async () => {
  await using box = await engine.runtime.create({
    image: 'tiny',
    diskLimits: { writeBytesPerSecond: half },
  });
  // One and a half MiB, of which a tenth of a second's worth goes at once.
  expect(await timed(box, write)).toBeGreaterThan(2500);
  expect(await timed(box, read)).toBeLessThan(2000);
  await box.limitDisk({ readBytesPerSecond: half });
  expect(await timed(box, write)).toBeLessThan(2000);
  expect(await timed(box, read)).toBeGreaterThan(2500);
  await box.limitDisk({});
  expect(await timed(box, read)).toBeLessThan(2000);
  expect(await kept(box)).toEqual(unlimited);
  await box.limitDisk({ writeOperationsPerSecond: 10 });
  // Each is one write at least, written through.
  const writes = 'for i in $(seq 20); do dd if=/dev/zero of=/root/small bs=4k count=1 conv=fsync 2>&1; done';
  expect(await timed(box, writes)).toBeGreaterThan(1500);
});

it('limits are kept over the life of a box, and by its children', async () => {
  const limits: DiskLimits = {
    readBytesPerSecond: 3_000_000,
    writeBytesPerSecond: 2_000_000,
    readOperationsPerSecond: 300,
    writeOperationsPerSecond: 200,
  };
  const limited = new Set(['disks 3000000 2000000 300 200']);
  const box = await engine.runtime.create({ image: 'tiny', diskLimits: limits });
  expect((await box.info()).diskLimits).toEqual(limits);
  expect(await kept(box)).toEqual(limited);
  await box.snapshot.create('memory', { memory: true });
  await box.snapshot.create('disks');
  expect(await kept(box)).toEqual(limited);
  await box.pause();
  await box.resume();
  expect(await kept(box)).toEqual(limited);
  const [fork] = await box.fork({ count: 1 });
  if (!fork || 'error' in fork) throw new Error('no fork', { cause: fork?.error });
  expect(await kept(fork.box)).toEqual(limited);
  await fork.box.remove({ force: true });
  const clone = await box.clone(undefined, { startAfterClone: true });
  expect(await kept(clone)).toEqual(limited);
  await clone.remove({ force: true });
  // Limits are no part of a snapshot.
  await box.limitDisk({ writeBytesPerSecond: 70_000 });
  await box.snapshot.restore('memory', { live: true });
  expect(await kept(box)).toEqual(new Set(['disks 0 70000 0 0']));
  await box.stop();
  await box.limitDisk(limits);
  await box.start();
  expect(await kept(box)).toEqual(limited);
  expect((await box.info()).diskLimits).toEqual(limits);
  await box.remove({ force: true });
});

it('what a guest has to write for a stop or a snapshot is not limited', async () => {
  await using box = await engine.runtime.create({
    image: 'tiny',
    diskLimits: { writeBytesPerSecond: 65_536 },
  });
  // At the limit it would take over four minutes.
  const dirty = 'dd if=/dev/urandom of=/root/dirty bs=1M count=16 2>&1; sha256sum /root/dirty';
  const sum = (await output(box, dirty)).split('\n').at(-1);
  const started = performance.now();
  const { consistency } = await box.snapshot.create('frozen');
  expect(consistency).toBe('frozen');
  await box.stop();
  expect(performance.now() - started).toBeLessThan(40_000);
  await box.start();
  expect(await output(box, 'sha256sum /root/dirty')).toBe(sum);
});

it('limits out of range, and what is no limit, are refused by name', async () => {
  const refused = async (diskLimits: unknown): Promise<string> => {
    const options = { image: 'tiny', diskLimits: diskLimits as DiskLimits };
    const { code, message } = await failureOf(engine.runtime.create(options));
    return `${code}: ${message}`;
  };
  expect(await refused({ readBytesPerSecond: 0 })).toBe(
    'invalid_argument: diskLimits.readBytesPerSecond must be a whole number from 65536 to 1000000000000, got 0',
  );
  expect(await refused({ writeOperationsPerSecond: 9.5 })).toBe(
    'invalid_argument: diskLimits.writeOperationsPerSecond must be a whole number from 10 to 1000000000, got 9.5',
  );
  expect(await refused({ writeBytesPerSecond: 2 ** 60 })).toContain('diskLimits.writeBytesPerSecond');
  expect(await refused({ readOperationsPerSecond: '10' })).toContain('diskLimits.readOperationsPerSecond');
  expect(await refused({ bps: 1 })).toBe('unsupported: not supported: diskLimits.bps');
  expect(await refused([])).toContain('diskLimits must be an object');
  expect(await engine.runtime.list()).toEqual([]);
});
