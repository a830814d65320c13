import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { builtEntry } from '../support/built.js';
import { failureOf, TestEngine } from './support.js';

const sysctl = '/proc/sys/vm/unprivileged_userfaultfd';
let before = '0';

beforeAll(async () => {
  await builtEntry('memory/page-server-main.ts');
  before = readFileSync(sysctl, 'utf8').trim();
  writeFileSync(sysctl, '1');
});
afterAll(() => writeFileSync(sysctl, before));

const engine = new TestEngine();

/** Page servers that belong to machines of this file's engine. */
function pageServers(): number[] {
  const lines = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' }).split('\n');
  return lines
    .filter((line) => line.includes('page-server-main.js'))
    .map((line) => Number.parseInt(line, 10));
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

it('puts a box back to paused when its page server dies, and says why', async () => {
  const { runtime } = engine;
  await using box = await runtime.create({ image: 'tiny' });
  await box.exec(['sh', '-c', 'echo kept > /root/file; sync']);
  await box.pause();
  const others = new Set(pageServers());
  await box.resume({ pager: 'uffd' });
  const [server] = pageServers().filter((pid) => !others.has(pid));
  if (server === undefined) throw new Error('no page server');
  const events = runtime.events();
  const paused = (async () => {
    for await (const event of events) if (event.id === box.id && event.change === 'paused') return;
  })();
  const started = performance.now();
  process.kill(server, 'SIGKILL');
  await paused;
  expect(performance.now() - started).toBeLessThan(3_000);
  const info = await box.info();
  expect(info).toMatchObject({ status: 'paused', pid: null });
  expect(info.failure).toContain('page server');
  expect((await box.exec(['cat', '/root/file'])).stdout.toString()).toBe('kept\n');
  expect((await box.info()).failure).toBeNull();
});

it('refuses uffd by name where the host denies it, and auto maps', async () => {
  await using box = await engine.runtime.create({ image: 'tiny' });
  await box.pause();
  writeFileSync(sysctl, '0');
  try {
    const failure = await failureOf(box.resume({ pager: 'uffd' }));
    expect(failure).toMatchObject({ code: 'unsupported' });
    expect(failure.hint).toContain('vm.unprivileged_userfaultfd');
    expect((await box.info()).status).toBe('paused');
    expect(await box.resume()).toMatchObject({ pager: 'mmap' });
  } finally {
    writeFileSync(sysctl, '1');
  }
});
