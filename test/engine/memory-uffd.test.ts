import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { builtEntry } from '../support/built.js';
import { failureOf, TestEngine } from './support.js';

/** A setting of the host: everything that needs it is in this file, whose tests run one after the other. */
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

/** Rounds of pause and resume; 20 is what is promised, and takes minutes. */
const rounds = Number(process.env['CRYOBOX_TEST_ROUNDS'] ?? 6);
const roundTimeoutMs = 30_000;

/** Holds 100 MB of random bytes and a counter; answers each request with what they are now. */
const program = `
import hashlib, os, random, time
data = bytearray(os.urandom(100_000_000))
counter = 0
def say(name, text):
    open(name + '.new', 'w').write(text)
    os.rename(name + '.new', name)
while True:
    say('/run/answer', f'{counter} {hashlib.md5(data).hexdigest()} {os.getpid()}')
    while not os.path.exists('/run/ask'):
        time.sleep(0.01)
    os.remove('/run/ask')
    counter += 1
    at = random.randrange(len(data) - 4_000_000)
    data[at:at + 4_000_000] = os.urandom(4_000_000)
`;

const output = async (box: Box, script: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await box.exec(['sh', '-c', script]);
  if (exitCode !== 0) throw new Error(`${script}: ${exitCode} ${stderr}`);
  return stdout.toString().trim();
};

const answer = (box: Box): Promise<string> =>
  output(box, 'until [ -e /run/answer ]; do sleep 0.02; done; cat /run/answer');

it(
  `keeps a program, its 100 MB and its counter over ${rounds} rounds with both pagers in turn`,
  async () => {
    await using box = await engine.runtime.create({ image: 'debian-python' });
    await output(box, 'mkdir -p /run');
    await box.files.write('/run/program.py', program);
    await box.startExec(['python3', '/run/program.py']);
    let expected = await answer(box);
    const pid = expected.split(' ')[2];
    const startTime = (): Promise<string> => output(box, `cut -d' ' -f22 /proc/${pid}/stat`);
    const started = await startTime();
    const { run } = await box.info();
    for (let round = 1; round <= rounds; round += 1) {
      await box.pause();
      expect((await box.info()).storage.memoryBytes).toBeGreaterThan(0);
      const pager = round % 2 === 0 ? 'uffd' : 'mmap';
      expect(await box.resume({ pager })).toMatchObject({ pager, resumed: true });
      expect(await output(box, 'cat /run/answer')).toBe(expected);
      expect(Math.abs(Number(await output(box, 'date +%s%3N')) - Date.now())).toBeLessThan(1000);
      expect(await startTime()).toBe(started);
      expect((await box.info()).run).toBe(run);
      await output(box, 'rm /run/answer; touch /run/ask');
      expected = await answer(box);
      expect(expected.split(' ')[0]).toBe(String(round));
    }
    // What it says of its memory is true: the hash is of the bytes it holds now.
    await box.pause();
    expect(await output(box, 'cat /run/answer')).toBe(expected);
  },
  rounds * roundTimeoutMs,
);
