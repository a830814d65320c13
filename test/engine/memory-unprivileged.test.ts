import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Box, Runtime } from '../../src/api/index.js';
import { connectRuntime } from '../../src/remote/index.js';
import { newHome, type TestHome } from '../support/home.js';
import { type EngineProcess, startEngine } from './engine-process.js';
import { failureOf, output } from './support.js';
import { tightHome } from './tight-disk.js';

/** CAP_SYS_PTRACE (capabilities(7)), without which an engine cannot read its machines, which run as other users. */
const ptrace = 1n << 19n;
const withoutPtrace = ['setpriv', '--bounding-set=-sys_ptrace', '--inh-caps=-sys_ptrace', '--'];

let home: TestHome;
let engine: EngineProcess;
let runtime: Runtime;

beforeAll(async () => {
  home = await newHome();
  engine = await startEngine(home.path, withoutPtrace);
  runtime = connectRuntime({ socketPath: `${home.path}/engine.sock` });
});
afterAll(async () => {
  for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
  await runtime.close();
  process.kill(engine.pid, 'SIGTERM');
  await engine.exited;
  await home[Symbol.asyncDispose]();
});

const fill = 'head -c 8000000 /dev/urandom > /dev/shm/data; echo kept > /root/file; sync';
const look = 'md5sum < /dev/shm/data; cat /root/file';
const count =
  'i=0; while true; do i=$((i+1)); echo $i > /dev/shm/n.new; mv /dev/shm/n.new /dev/shm/n; sleep 0.05; done';

/** Returns when the counter in a box's memory goes on. */
async function counts(box: Box): Promise<void> {
  const n = await output(box, 'until [ -e /dev/shm/n ]; do sleep 0.05; done; cat /dev/shm/n');
  await output(box, `until [ $(cat /dev/shm/n) -gt ${n} ]; do sleep 0.05; done`);
}

it('pauses and resumes by the stream that QEMU writes, where its memory cannot be read', async () => {
  const status = await readFile(`/proc/${engine.pid}/status`, 'utf8');
  expect(BigInt(`0x${/^CapEff:\s+(\w+)$/m.exec(status)?.[1]}`) & ptrace).toBe(0n);
  const box = await runtime.create({ image: 'tiny' });
  await output(box, fill);
  const before = await output(box, look);
  await box.startExec(['sh', '-c', count]);
  await counts(box);
  const { run, pid } = await box.info();
  expect(await readFile(`/proc/${pid}/status`, 'utf8')).not.toMatch(/^Uid:\s+0\s/m);
  for (let round = 0; round < 3; round += 1) {
    await box.pause();
    const { memoryBytes } = (await box.info()).storage;
    // The difference and no more: the rest of 512 MiB is the golden machine's.
    expect(memoryBytes).toBeGreaterThan(round === 0 ? 8_000_000 : 0);
    expect(memoryBytes).toBeLessThan(64_000_000);
    expect(await box.resume()).toMatchObject({ resumed: true });
    expect(await output(box, look)).toBe(before);
    expect((await box.info()).run).toBe(run);
    await counts(box);
    await output(box, `echo ${round} >> /root/rounds; sync`);
  }
  expect(await output(box, 'cat /root/rounds')).toBe('0\n1\n2');
  await box.remove({ force: true });
});

it('takes snapshots with memory, rolls back and forks by that stream; the box goes on', async () => {
  const box = await runtime.create({ image: 'tiny' });
  await output(box, fill);
  const before = await output(box, look);
  await box.startExec(['sh', '-c', count]);
  await counts(box);
  await box.snapshot.create('point', { memory: true });
  await counts(box);
  await output(box, 'rm /dev/shm/data /root/file; sync');
  const [result] = await box.fork({ count: 1 });
  if (!result || 'error' in result) throw result?.error ?? new Error('no child');
  await counts(box);
  expect(await output(result.box, '[ -e /root/file ] || [ -e /dev/shm/data ] || echo gone')).toBe('gone');
  await counts(result.box);
  await box.snapshot.restore('point', { live: true });
  expect(await output(box, look)).toBe(before);
  await counts(box);
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
  for (const it of [result.box, box]) await it.remove({ force: true });
});

it('goes on when such a capture finds the disk full', async () => {
  await using tight = await tightHome(900);
  const other = await startEngine(tight.path, withoutPtrace);
  const client = connectRuntime({ socketPath: `${tight.path}/engine.sock` });
  try {
    const box = await client.create({ image: 'tiny' });
    await output(box, fill);
    const before = await output(box, look);
    await box.startExec(['sh', '-c', count]);
    await counts(box);
    await tight.fill(5000);
    expect((await failureOf(box.pause())).code).toBe('disk_full');
    await counts(box);
    await tight.empty();
    expect(await output(box, look)).toBe(before);
    await box.pause();
    expect(await output(box, look)).toBe(before);
    await box.remove({ force: true });
  } finally {
    await client.close();
    process.kill(other.pid, 'SIGTERM');
    await other.exited;
  }
});
