import { open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { withDatabase } from './disk-files.js';
import { failureOf, output, TestEngine } from './support.js';

const engine = new TestEngine();

const count =
  'i=0; while true; do i=$((i+1)); echo $i > /root/n.new; mv /root/n.new /root/n; sleep 0.05; done';

/** Layers of a kind that a paused box goes on from. */
async function memoryFiles(box: Box): Promise<{ map: string; pages: string; state: string; disk: string }> {
  return await withDatabase(engine.home, async (db) => {
    const row = await db
      .selectFrom('boxes')
      .innerJoin('memories', 'memories.id', 'boxes.memory_id')
      .innerJoin('layers', 'layers.id', 'memories.layer_id')
      .select(['layer_id', 'state_layer', 'disk_layer', 'layers.parent_id as map_layer'])
      .where('boxes.id', '=', box.id)
      .executeTakeFirstOrThrow();
    const path = (id: string): string => join(engine.home, 'layers', id);
    return {
      map: path(row.map_layer ?? ''),
      pages: path(row.layer_id),
      state: path(row.state_layer),
      disk: path(row.disk_layer),
    };
  });
}

/** Inverts a byte of a file; the same again puts it right. */
async function flip(path: string, offset: number): Promise<void> {
  const file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  await file.write(Buffer.from([(byte[0] ?? 0) ^ 0xff]), 0, 1, offset);
  await file.close();
}

it('pauses and resumes a box with its processes, and frees what it used', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  const execution = await box.startExec(['sh', '-c', count]);
  await output(box, 'until [ -e /root/n ]; do sleep 0.05; done; echo kept > /root/file');
  const before = await box.info();
  await box.pause();
  const paused = await box.info();
  expect(paused).toMatchObject({ status: 'paused', pid: null, run: null, operation: null });
  expect(paused.storage.memoryBytes).toBeGreaterThan(0);
  await expect(stat(`/proc/${before.pid}`)).rejects.toMatchObject({ code: 'ENOENT' });
  expect(await readdir(join(engine.home, 'machines'))).toEqual([]);

  expect(await box.resume()).toMatchObject({ pager: 'mmap', resumed: true });
  expect(await box.info()).toMatchObject({ status: 'running', run: before.run });
  const n = Number(await output(box, 'cat /root/n'));
  await output(box, `until [ $(cat /root/n) -gt ${n + 2} ]; do sleep 0.05; done`);
  expect(await output(box, 'cat /root/file')).toBe('kept');
  expect((await box.executions.get(execution.id))?.status).toBe('running');
  expect(await box.resume()).toMatchObject({ resumed: false });
});

it('an exec or a copy resumes a paused box by itself, unless it may not', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  const { run } = await box.info();
  await box.pause();
  expect(await output(box, 'echo here')).toBe('here');
  await box.pause();
  await box.files.write('/root/file', 'copied');
  expect((await box.info()).run).toBe(run);
  await using other = await runtime.create({ image: 'tiny', autoResume: false });
  await other.pause();
  expect((await failureOf(other.exec(['true']))).code).toBe('stopped');
});

it('pauses a box that nobody uses when that is its policy', async () => {
  const { runtime } = engine;
  const events = runtime.events();
  await using box = await runtime.create({ image: 'tiny', autoStop: 1, autoStopAction: 'pause' });
  for await (const event of events) if (event.id === box.id && event.change === 'paused') break;
  expect((await box.info()).status).toBe('paused');
});

it('refuses what a state does not allow', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny', name: 'strict' });
  for (const options of [
    { count: 0 },
    { count: 101 },
    { count: 1.5 },
    { count: 1, names: ['a', 'b'] },
    { count: 2, names: ['a', 'a'] },
  ]) {
    expect((await failureOf(box.fork(options))).code).toBe('invalid_argument');
  }
  expect((await failureOf(box.fork({ count: 1, fromSnapshot: 'none' }))).code).toBe('not_found');
  const [taken, fine] = await box.fork({ count: 2, names: ['strict', 'fine'] });
  expect(taken && 'error' in taken && taken.error).toMatchObject({ code: 'already_exists' });
  if (!fine || !('box' in fine)) throw new Error('no child');
  await fine.box.remove({ force: true });
  await box.pause();
  expect((await failureOf(box.pause())).code).toBe('invalid_state');
  expect(await failureOf(box.start())).toMatchObject({
    code: 'invalid_state',
    hint: 'Resume the box instead',
  });
  await box.stop();
  for (const call of [box.pause(), box.resume(), box.fork({ count: 1 })]) {
    expect((await failureOf(call)).code).toBe('invalid_state');
  }
  expect((await failureOf(box.snapshot.create('memory', { memory: true }))).code).toBe('invalid_state');
  await box.snapshot.create('disks');
  expect((await failureOf(box.snapshot.restore('disks', { live: true }))).code).toBe('invalid_state');
  expect((await failureOf(box.fork({ count: 1, fromSnapshot: 'disks' }))).code).toBe('invalid_state');
});

it('two resumes at once make one machine', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await box.pause();
  const results = await Promise.all([box.resume(), box.resume(), box.exec(['true'])]);
  expect([results[0].resumed, results[1].resumed].filter((it) => it)).toHaveLength(1);
  expect(await readdir(join(engine.home, 'machines'))).toHaveLength(1);
});

it('starts a paused box from its disks when its memory is given up', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await output(box, 'echo kept > /root/file; sync');
  const { run } = await box.info();
  await box.pause();
  await box.start({ discardMemory: true });
  expect((await box.info()).run).not.toBe(run);
  expect(await output(box, 'cat /root/file')).toBe('kept');
  await box.pause();
  await box.stop();
  expect(await box.info()).toMatchObject({ status: 'stopped', storage: { memoryBytes: 0 } });
  await box.start();
  expect(await output(box, 'cat /root/file')).toBe('kept');
  await box.pause();
  await box.remove();
  expect(await engine.runtime.get(box.id)).toBeNull();
});

it('finds a byte that was flipped: the box stays paused, and others are not affected', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  await using other = await runtime.create({ image: 'tiny' });
  await output(box, 'echo kept > /root/file');
  await box.pause();
  await other.pause();
  const { pages, state } = await memoryFiles(box);
  for (const [path, offset] of [
    [pages, 5000],
    [state, 5000],
  ] as const) {
    await flip(path, offset);
    expect((await failureOf(box.resume())).code).toBe('integrity');
    const { ok, problems } = await runtime.verify();
    expect(ok).toBe(false);
    expect(problems.map(({ what }) => what)).toContain(basename(path));
    expect((await box.info()).status).toBe('paused');
    await flip(path, offset);
  }
  await other.resume();
  expect(await output(box, 'cat /root/file')).toBe('kept');
});

/** Changes what is written down of a paused box's memory; returns what it was. */
async function rewriteMemory(
  box: Box,
  facts: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  return await withDatabase(engine.home, async (db) => {
    const { memory_id } = await db
      .selectFrom('boxes')
      .select('memory_id')
      .where('id', '=', box.id)
      .executeTakeFirstOrThrow();
    const rows = db
      .selectFrom('memories')
      .selectAll()
      .where('id', '=', memory_id ?? '');
    const before = (await rows.executeTakeFirstOrThrow()) as unknown as Record<string, string>;
    await db
      .updateTable('memories')
      .set(facts as object)
      .where('id', '=', memory_id ?? '')
      .execute();
    return Object.fromEntries(Object.keys(facts).map((name) => [name, before[name] ?? '']));
  });
}

it('refuses a memory that cannot go on here before QEMU starts, naming what differs', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await output(box, 'echo kept > /root/file; sync');
  const { run } = await box.info();
  await box.pause();
  for (const [name, value, words] of [
    ['qemu_version', '0.1', 'QEMU version 0.1'],
    ['machine_type', 'pc-q35-0.1', 'machine type pc-q35-0.1'],
    ['cpu_model', 'other', 'cpu model other'],
    ['accelerator', 'other', 'accelerator other'],
  ] as const) {
    const before = await rewriteMemory(box, { [name]: value });
    for (const call of [() => box.resume(), () => box.exec(['true']), () => box.fork({ count: 1 })]) {
      const failure = await failureOf(call());
      expect(failure.code).toBe('invalid_state');
      expect(failure.message).toContain(words);
      expect(failure.message).toContain(`and here it is ${before[name]}`);
      expect(failure.hint).toContain('discardMemory');
    }
    expect((await box.info()).status).toBe('paused');
    expect(await readdir(join(engine.home, 'machines'))).toEqual([]);
    await rewriteMemory(box, before);
  }
  // Kernel and agent are in the memory and on its own guest disk: it brings them along.
  await rewriteMemory(box, { kernel_version: '0.1', assets_key: 'other' });
  await box.resume();
  expect((await box.info()).run).toBe(run);
  await box.pause();

  await rewriteMemory(box, { qemu_version: '0.1' });
  await box.start({ discardMemory: true });
  expect((await box.info()).run).not.toBe(run);
  expect(await output(box, 'cat /root/file')).toBe('kept');
});

it('goes on from the disks of its memory after a resume that failed half-way', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await output(box, 'echo one > /root/file; sync');
  await box.pause();
  const { state } = await memoryFiles(box);
  await flip(state, 100);
  expect((await failureOf(box.exec(['true']))).code).toBe('integrity');
  await flip(state, 100);
  expect(await output(box, 'cat /root/file')).toBe('one');
});

it('has on the disks of a snapshot with memory what was written before it', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await output(box, 'echo written > /root/file');
  await box.snapshot.create('point', { memory: true });
  await using clone = await box.clone(undefined, { fromSnapshot: 'point', startAfterClone: true });
  expect(await output(clone, 'cat /root/file')).toBe('written');
  await clone.remove({ force: true });
});

it('has on the disks of a box that was paused because nobody used it what was written before', async () => {
  const { runtime } = engine;
  const events = runtime.events();
  await using box = await runtime.create({ image: 'tiny', autoStop: 1, autoStopAction: 'pause' });
  await output(box, 'echo written > /root/file');
  for await (const event of events) if (event.id === box.id && event.change === 'paused') break;
  await box.start({ discardMemory: true });
  expect(await output(box, 'cat /root/file')).toBe('written');
});

/** What of a home `verify` complains about. */
async function complaints(): Promise<string[]> {
  return (await engine.runtime.verify()).problems.map(({ what }) => what);
}

it('finds layers cut short: the box stays paused, and others are not affected', {
  timeout: 120_000,
}, async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  await using other = await runtime.create({ image: 'tiny' });
  await output(box, 'head -c 3000000 /dev/urandom > /dev/shm/data; echo kept > /root/file; sync');
  await box.pause();
  await other.pause();
  expect(await complaints()).toEqual([]);
  const { map, pages, state } = await memoryFiles(box);
  const whole = new Map<string, Buffer>();
  for (const path of [map, pages, state]) whole.set(path, await readFile(path));
  for (const [path, content] of whole) {
    for (const length of [0, 10, content.length - 1]) {
      await truncate(path, length);
      expect((await failureOf(box.resume())).code, `${path} of ${length} bytes`).toBe('integrity');
      expect(await box.info()).toMatchObject({ status: 'paused', pid: null, operation: null });
      await writeFile(path, content);
    }
  }
  for (const [path, content] of whole) await truncate(path, content.length - 1);
  expect(await complaints()).toEqual(expect.arrayContaining([map, pages, state].map((it) => basename(it))));
  await other.resume();
  expect((await other.exec(['true'])).exitCode).toBe(0);
  for (const [path, content] of whole) await writeFile(path, content);
  expect(await complaints()).toEqual([]);
  expect(await output(box, 'cat /root/file')).toBe('kept');
});

it('finds a byte flipped anywhere in the layers of a paused box', { timeout: 120_000 }, async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await output(box, 'head -c 3000000 /dev/urandom > /dev/shm/data; echo kept > /root/file; sync');
  await box.pause();
  expect(await complaints()).toEqual([]);
  const { map, pages, state, disk } = await memoryFiles(box);
  const paths = [map, pages, state, disk];
  for (const part of [0, 0.4, 1]) {
    const offsets = new Map<string, number>();
    for (const path of paths) offsets.set(path, Math.floor(((await stat(path)).size - 1) * part));
    for (const [path, offset] of offsets) await flip(path, offset);
    expect(await complaints()).toEqual(expect.arrayContaining(paths.map((path) => basename(path))));
    for (const [path, offset] of offsets) await flip(path, offset);
  }
  expect(await complaints()).toEqual([]);
  expect(await output(box, 'cat /root/file')).toBe('kept');
});
