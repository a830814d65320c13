import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { runDoctor } from '../../src/install/doctor/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { newHome } from '../support/home.js';
import { partOf } from '../support/part.js';
import { allowUserfaultfd, withUserfaultfd } from '../support/userfaultfd.js';
import { startEngine } from './engine-process.js';
import { ask, startProgram } from './memory-program.js';
import {
  fill,
  fillMuch,
  gone,
  look,
  pageServerOf,
  pausedAfter,
  requirePageServer,
  resumeSlowly,
  resumeUnsupplied,
} from './page-servers.js';
import { failureOf, output, TestEngine } from './support.js';

withUserfaultfd();

const engine = new TestEngine();

/** Bytes that the layers of this file's home take. */
async function layerBytes(): Promise<number> {
  const folder = join(engine.home, 'layers');
  const sizes = (await readdir(folder)).map(async (name) => (await stat(join(folder, name))).blocks * 512);
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}

it('resumes with memory that is fetched on demand, and pauses again', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await box.exec([
    'sh',
    '-c',
    'head -c 8000000 /dev/urandom > /dev/shm/data || head -c 8000000 /dev/urandom > /root/data',
  ]);
  const sum = async (): Promise<string> =>
    (await box.exec(['sh', '-c', 'cat /dev/shm/data /root/data 2>/dev/null | md5sum'])).stdout.toString();
  const expected = await sum();
  const { run } = await box.info();
  for (let round = 0; round < 3; round += 1) {
    await box.pause();
    const result = await box.resume({ pager: 'uffd' });
    expect(result).toMatchObject({ pager: 'uffd', resumed: true });
    expect(await sum()).toBe(expected);
    expect((await box.info()).run).toBe(run);
  }
  await box.pause();
  expect(await box.resume({ pager: 'mmap' })).toMatchObject({ pager: 'mmap' });
  expect(await sum()).toBe(expected);
});

it.each(partOf(['page server', 'machine'] as const, 2))(
  'puts a box back to paused when its %s is killed, and says why; it can be resumed again',
  async (victim) => {
    const { runtime } = engine;
    await using box = await runtime.create({ image: 'tiny' });
    await output(box, fill);
    const before = await output(box, look);
    const { run } = await box.info();
    await box.pause();
    using server = await resumeUnsupplied(box, engine.home);
    const paused = pausedAfter(runtime, box);
    process.kill(victim === 'machine' ? ((await box.info()).pid ?? 0) : server.pid, 'SIGKILL');
    expect(await paused).toBeLessThan(3_000);
    const info = await box.info();
    expect(info).toMatchObject({ status: 'paused', pid: null, run: null, operation: null });
    expect(info.failure).toContain(victim);
    expect(pageServerOf(box, engine.home)).toBeUndefined();
    await box.resume({ pager: 'uffd' });
    expect(await output(box, look)).toBe(before);
    expect(await box.info()).toMatchObject({ status: 'running', run, failure: null });
    expect(await readdir(join(engine.home, 'machines'))).toHaveLength(1);
  },
);

it('pauses, stops and removes a box that still gets its memory, and leaves no page server', async () => {
  const box = await engine.runtime.create({ image: 'tiny' });
  await output(box, fill);
  const before = await output(box, look);
  await box.pause();
  for (const end of [() => box.pause(), () => box.stop(), () => box.remove({ force: true })]) {
    using server = await resumeSlowly(box, engine.home);
    await end();
    await gone(server.pid);
    if (!(await engine.runtime.get(box.id))) break;
    if ((await box.info()).status === 'paused') expect(await output(box, look)).toBe(before);
    else await output(box, fill);
    await box.pause();
  }
  expect(await readdir(join(engine.home, 'machines'))).toEqual([]);
});

it('keeps the layers of a template that is removed while a box still reads from it', async () => {
  const { runtime } = engine;
  const source = await runtime.create({ image: 'tiny' });
  await output(source, fill);
  const before = await output(source, look);
  await runtime.templates.create({ box: source.id, name: 'short-lived' });
  await source.remove({ force: true });
  const box = await runtime.create({ template: 'short-lived' });
  await box.pause();
  await box.resume({ pager: 'uffd' });
  await runtime.templates.remove('short-lived');
  await runtime.gc();
  requirePageServer(box, engine.home);
  expect(await output(box, look)).toBe(before);
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
  await box.pause();
  await runtime.gc();
  await box.resume({ pager: 'uffd' });
  expect(await output(box, look)).toBe(before);
  const withMemory = await layerBytes();
  await box.remove({ force: true });
  await runtime.gc();
  expect(await layerBytes()).toBeLessThan(withMemory - 8_000_000);
});

it.each(partOf(['nothing else', 'the page server', 'the machine'] as const, 3))(
  'an engine that comes back finds a box that still gets its memory, when it and %s was killed',
  async (also) => {
    await using home = await newHome();
    const first = await startEngine(home.path);
    const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
    const box = await client.create({ image: 'tiny', name: 'b', detach: true });
    await output(box, fill);
    const before = await output(box, look);
    const { run } = await box.info();
    await box.pause();
    using server = await resumeUnsupplied(box, home.path);
    const { pid } = await box.info();
    process.kill(first.pid, 'SIGKILL');
    await first.exited;
    if (also === 'nothing else') server.release();
    if (also === 'the page server') process.kill(server.pid, 'SIGKILL');
    if (also === 'the machine') process.kill(pid ?? 0, 'SIGKILL');
    await client.close();

    await using second = await Engine.open({ home: home.path, poolSize: 0 });
    const again = await second.runtime().get('b');
    if (!again) throw new Error('the box is gone');
    const info = await again.info();
    if (also === 'nothing else') expect(info).toMatchObject({ status: 'running', pid, run });
    else {
      expect(info).toMatchObject({ status: 'paused', pid: null });
      expect(info.failure).toContain('no engine was there');
      await again.resume();
    }
    expect(await output(again, look)).toBe(before);
    expect((await again.info()).run).toBe(run);
    await again.pause();
    expect(await output(again, look)).toBe(before);
    await gone(server.pid);
    await again.remove({ force: true });
  },
);

it('puts a box back to paused whose page server dies after the engine has come back', {
  timeout: 240_000,
}, async () => {
  await using home = await newHome();
  const first = await startEngine(home.path);
  const client = connectRuntime({ socketPath: `${home.path}/engine.sock` });
  const box = await client.create({ image: 'tiny', name: 'b', detach: true });
  await output(box, fillMuch);
  const before = await output(box, look);
  await box.pause();
  using server = await resumeSlowly(box, home.path);
  process.kill(first.pid, 'SIGKILL');
  await first.exited;
  await client.close();
  await using second = await Engine.open({ home: home.path, poolSize: 0 });
  const again = await second.runtime().get('b');
  if (!again) throw new Error('the box is gone');
  expect((await again.info()).status).toBe('running');
  const paused = pausedAfter(second.runtime(), again);
  process.kill(server.pid, 'SIGKILL');
  expect(await paused).toBeLessThan(5_000);
  expect((await again.info()).failure).toContain('page server');
  await again.resume();
  expect(await output(again, look)).toBe(before);
  await again.remove({ force: true });
});

it('picks the pager by the size of the difference, and says which', { timeout: 120_000 }, async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await output(box, fill);
  await box.pause();
  expect(await box.resume()).toMatchObject({ pager: 'mmap' });
  await box.pause();
  // What came on demand is not near to anything that can be mapped: the difference is packed.
  await box.resume({ pager: 'uffd' });
  await output(box, fillMuch);
  const before = await output(box, look);
  await box.pause();
  expect(await box.resume()).toMatchObject({ pager: 'uffd' });
  expect(await output(box, look)).toBe(before);
});

it('refuses uffd by name where the host denies it, and auto maps', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await box.pause();
  allowUserfaultfd(false);
  try {
    const failure = await failureOf(box.resume({ pager: 'uffd' }));
    expect(failure).toMatchObject({ code: 'unsupported' });
    expect(failure.hint).toContain('vm.unprivileged_userfaultfd');
    expect((await box.info()).status).toBe('paused');
    expect(await box.resume()).toMatchObject({ pager: 'mmap' });
    const said = (await runDoctor({ home: engine.home })).find(({ name }) => name === 'userfaultfd');
    expect(said).toMatchObject({ hint: expect.stringContaining('vm.unprivileged_userfaultfd=1') });
  } finally {
    allowUserfaultfd(true);
  }
});

/** Rounds of pause and resume; 20 is what is promised, and takes minutes. */
const rounds = Number(process.env['CRYOBOX_TEST_ROUNDS'] ?? 4);
const roundTimeoutMs = 30_000;

it(
  `keeps a program, its 100 MB and its counter over ${rounds} rounds with both pagers in turn`,
  async () => {
    await using box = await engine.runtime.create({ image: 'debian-python' });
    let expected = await startProgram(box, 100_000_000);
    const pid = expected.split(' ')[2];
    const startTime = (): Promise<string> => output(box, `cut -d' ' -f22 /proc/${pid}/stat`);
    const started = await startTime();
    const { run } = await box.info();
    for (let round = 1; round <= rounds; round += 1) {
      await box.pause();
      expect((await box.info()).storage.memoryBytes).toBeGreaterThan(0);
      const pager = round % 2 === 0 ? 'uffd' : 'mmap';
      expect(await box.resume({ pager })).toMatchObject({ pager, resumed: true });
      expect(await ask(box, 'look')).toBe(expected);
      expect(Math.abs(Number(await output(box, 'date +%s%3N')) - Date.now())).toBeLessThan(1000);
      expect(await startTime()).toBe(started);
      expect((await box.info()).run).toBe(run);
      expected = await ask(box, 'change');
      expect(expected.split(' ')[0]).toBe(String(round));
    }
    await box.pause();
    expect(await ask(box, 'look')).toBe(expected);
  },
  rounds * roundTimeoutMs,
);
