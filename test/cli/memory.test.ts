import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { mustRun, runCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
const cli = (...args: string[]) => runCli(home.path, ...args);
const must = (...args: string[]) => mustRun(home.path, ...args);
const inspect = async (name: string) => JSON.parse(await must('inspect', name, '--format', 'json'));

beforeAll(async () => {
  home = await newHome();
});
afterAll(async () => {
  for (const name of (await must('ls', '-q')).split('\n').filter((it) => it !== '')) {
    await cli('rm', '--force', name);
  }
  await cli('engine', 'stop');
  await home[Symbol.asyncDispose]();
});

const bytesPerKib = 1024;

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // The process has ended.
    return '';
  }
}

function workingDirectory(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}

/** Memory of all processes of the home: the engine, page servers, machines. */
function residentBytes(): number {
  const mine = readdirSync('/proc').filter(
    (pid) =>
      /^\d+$/.test(pid) &&
      (workingDirectory(pid).startsWith(`${home.path}/`) ||
        read(`/proc/${pid}/environ`).includes(`CRYOBOX_HOME=${home.path}\0`)),
  );
  const resident = mine.map((pid) => /^VmRSS:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
  return resident.reduce((sum: number, kib) => sum + Number(kib) * bytesPerKib, 0);
}

const megabyte = 1_000_000;

it('pause frees everything a box used, and exec resumes it by itself', { timeout: 120_000 }, async () => {
  await must('create', '--name', 'b', 'tiny');
  await must('exec', 'b', '--', 'sh', '-c', 'head -c 100000000 /dev/urandom > /dev/shm/data');
  const sum = await must('exec', 'b', '--', 'md5sum', '/dev/shm/data');
  const { pid, run } = await inspect('b');
  const machine = workingDirectory(String(pid));
  const machineBytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`))?.[1]) * bytesPerKib;
  expect(machineBytes).toBeGreaterThan(100 * megabyte);
  const before = residentBytes();
  expect(before).toBeGreaterThan(machineBytes);

  expect(await must('pause', 'b')).toBe('b\n');
  expect(existsSync(`/proc/${pid}`)).toBe(false);
  expect(existsSync(machine)).toBe(false);
  // What the engine holds for its own work is not the box's.
  expect(before - residentBytes()).toBeGreaterThan(machineBytes - 60 * megabyte);
  const paused = await inspect('b');
  expect(paused).toMatchObject({ status: 'paused', pid: null, run: null });
  expect(paused.storage.memoryBytes).toBeGreaterThan(100 * megabyte);
  const [listed] = JSON.parse(await must('ls', '--format', 'json'));
  expect(listed.storage.memoryBytes).toBe(paused.storage.memoryBytes);

  expect(await must('exec', 'b', '--', 'md5sum', '/dev/shm/data')).toBe(sum);
  const resumed = await inspect('b');
  expect(resumed).toMatchObject({ status: 'running', run });
  expect(resumed.stages.total).toBeGreaterThan(0);
  await must('pause', 'b');
  expect(await must('resume', '--pager', 'mmap', 'b')).toBe('b\n');
  expect(await must('exec', 'b', '--', 'md5sum', '/dev/shm/data')).toBe(sum);
  await must('rm', '-f', 'b');
});

it('forks, rolls back, and makes boxes from templates', { timeout: 120_000 }, async () => {
  await must('create', '--name', 'source', 'tiny');
  await must('exec', 'source', '--', 'sh', '-c', 'echo kept > /dev/shm/mark');
  const ids = (await must('fork', '--name', 'one', '--name', 'two', 'source')).trim().split('\n');
  expect(ids).toHaveLength(2);
  for (const name of ['one', 'two'])
    expect(await must('exec', name, '--', 'cat', '/dev/shm/mark')).toBe('kept\n');
  expect(await cli('fork', '-n', '0', 'source')).toMatchObject({ exitCode: 125 });

  await must('snapshot', 'create', '--memory', 'source', 'point');
  await must('exec', 'source', '--', 'rm', '/dev/shm/mark');
  const { id, run } = await inspect('source');
  await must('rollback', 'source', 'point');
  expect(await must('exec', 'source', '--', 'cat', '/dev/shm/mark')).toBe('kept\n');
  expect(await inspect('source')).toMatchObject({ id, run });

  expect(await must('template', 'create', 'source', 'warm')).toBe('warm\n');
  const [template] = JSON.parse(await must('template', 'ls', '--format', 'json'));
  expect(template).toMatchObject({ name: 'warm', memoryMiB: 512, type: 'memory' });
  const made = await must('run', '--rm', '--template', 'warm', '--', 'cat', '/dev/shm/mark');
  expect(made).toBe('kept\n');
  expect(await must('template', 'rm', 'warm')).toBe('warm\n');
  expect(JSON.parse(await must('template', 'ls', '--format', 'json'))).toEqual([]);
});
