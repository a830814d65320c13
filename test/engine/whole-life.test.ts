import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Box, ForkResult } from '../../src/api/index.js';
import { withUserfaultfd } from '../support/userfaultfd.js';
import { output, TestEngine } from './support.js';

withUserfaultfd();

const engine = new TestEngine();

/** A number in the box's memory alone, which a process of it counts on. */
const counting =
  'i=0; while true; do i=$((i+1)); echo $i > /dev/shm/n.new; mv /dev/shm/n.new /dev/shm/n; sleep 0.05; done';
const reads = 'cat /dev/shm/n';

/** Throws unless the counter goes on from at least `from`; returns what it has. */
async function counts(box: Box, from: number): Promise<number> {
  const now = Number(await output(box, reads));
  expect(now).toBeGreaterThanOrEqual(from);
  return Number(await output(box, `until [ $(${reads}) -gt ${now + 1} ]; do sleep 0.05; done; ${reads}`));
}

function onlyBox(results: readonly ForkResult[]): Box {
  const [result] = results;
  if (!result || !('box' in result)) throw new Error(JSON.stringify(results));
  return result.box;
}

it('leads a box through its whole life', { timeout: 300_000 }, async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'debian-python', name: 'whole-life' });
  const { stdout } = await box.exec(['python3', '-c', 'print(6 * 7)']);
  expect(stdout.toString()).toBe('42\n');
  await box.files.write('/root/file', 'first');
  await box.startExec(['sh', '-c', counting]);
  await output(box, 'until [ -e /dev/shm/n ]; do sleep 0.05; done');

  await box.snapshot.create('disks');
  let n = await counts(box, 1);
  for (const pager of ['mmap', 'uffd'] as const) {
    await box.pause();
    expect(await box.resume({ pager })).toMatchObject({ pager, resumed: true });
    n = await counts(box, n);
  }
  expect(await box.snapshot.create('moment', { memory: true })).toMatchObject({ hasMemory: true });

  await using child = onlyBox(await box.fork({ count: 1 }));
  await counts(child, n);
  await box.files.write('/root/file', 'second');
  expect(await output(child, 'cat /root/file')).toBe('first');
  await runtime.templates.create({ box: child.id, name: 'whole-life' });
  await using made = await runtime.create({ template: 'whole-life' });
  await counts(made, n);

  await box.snapshot.restore('moment', { live: true });
  expect(await output(box, 'cat /root/file')).toBe('first');
  await counts(box, n);

  const directory = await mkdtemp(join(tmpdir(), 'cryobox-life-'));
  try {
    const archive = await box.export(join(directory, 'box.boxsnap'), { memory: true });
    await using imported = await runtime.import(archive, { name: 'whole-life-2', memory: true });
    await counts(imported, n);
    await imported.remove({ force: true });
  } finally {
    await rm(directory, { recursive: true });
  }
  await box.stop();
  await box.snapshot.restore('disks');
  await box.start();
  expect(await output(box, 'cat /root/file; test -e /dev/shm/n || echo; uname -s')).toBe('first\nLinux');
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
  for (const it of [box, child, made]) await it.remove({ force: true });
});
