import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { arm64PreparationMs, prepareArm64 } from '../support/arm64.js';
import { writeTinyImage } from '../support/tiny-image.js';
import { withUserfaultfd } from '../support/userfaultfd.js';
import { failureOf, output, TestEngine } from './support.js';

withUserfaultfd();

const platform = 'linux/arm64';
const engine = new TestEngine();

beforeAll(async () => {
  const busybox = await prepareArm64();
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-arm64-'));
  const foreign = { architecture: 'arm64', busybox };
  try {
    const layout = await writeTinyImage(join(directory, 'image'), { foreign });
    await engine.runtime.images.import(layout, { reference: 'tiny-arm64', platform });
  } finally {
    await rm(directory, { recursive: true });
  }
}, arm64PreparationMs);

/** A number in the box's memory alone, which a process of it counts on. */
const counting =
  'i=0; while true; do i=$((i+1)); echo $i > /dev/shm/n.new; mv /dev/shm/n.new /dev/shm/n; usleep 50000; done';

/** Throws unless the counter goes on from at least `from`; returns what it has. */
async function counts(box: Box, from: number): Promise<number> {
  const now = Number(await output(box, 'cat /dev/shm/n'));
  expect(now).toBeGreaterThanOrEqual(from);
  return Number(
    await output(box, `until [ $(cat /dev/shm/n) -gt ${now} ]; do usleep 50000; done; cat /dev/shm/n`),
  );
}

it('leads an emulated box of arm64 through its life', { timeout: 240_000 }, async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny-arm64', platform });
  expect(await output(box, 'uname -m; id -u')).toBe('aarch64\n0');
  await box.files.write('/root/file', 'first');
  expect(await output(box, 'cat /root/file')).toBe('first');
  expect(await output(box, 'cat < /dev/tty || echo none')).toBe('none');

  await box.startExec(['sh', '-c', counting]);
  await output(box, 'until [ -e /dev/shm/n ]; do usleep 50000; done');
  await box.snapshot.create('disks');
  let n = await counts(box, 1);
  for (const pager of ['mmap', 'uffd'] as const) {
    await box.pause();
    expect(await box.resume({ pager })).toMatchObject({ pager, resumed: true });
    n = await counts(box, n);
  }

  await box.files.write('/root/file', 'second');
  await box.stop();
  await box.snapshot.restore('disks');
  await box.start();
  expect(await output(box, 'cat /root/file; echo; uname -m')).toBe('first\naarch64');
  await box.remove({ force: true });
});

it('takes the machine that the image is made for, and refuses another', { timeout: 60_000 }, async () => {
  const { runtime } = engine;
  const other = await failureOf(runtime.create({ image: 'tiny-arm64', platform: 'linux/amd64' }));
  expect(other).toMatchObject({ code: 'unsupported' });
  expect(other.message).toContain('made for linux/arm64, not for linux/amd64');
  const none = await failureOf(runtime.create({ image: 'tiny', platform: 'riscv' }));
  expect(none).toMatchObject({ code: 'invalid_argument' });
  await using box = await runtime.create({ image: 'tiny-arm64' });
  expect(await output(box, 'uname -m')).toBe('aarch64');
  await box.remove({ force: true });
});
