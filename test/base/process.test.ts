import { execFile } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { runProcess, startProcess } from '../../src/base/process/index.js';
import { isAlive } from '../../src/machine/index.js';
import { identify } from '../../src/machine/process.js';
import { builtEntry } from '../support/built.js';
import { temporaryDirectory } from '../support/temporary.js';

const sh = (script: string, more: object = {}) => ({ args: ['-c', script], ...more });

it('names a program that is not there, and its package', async () => {
  const env = { PATH: '/nowhere' };
  await expect(startProcess('prlimit', { env })).rejects.toMatchObject({
    code: 'config_error',
    message: expect.stringContaining('prlimit'),
    hint: 'Install it: apt-get install util-linux',
    details: { program: 'prlimit', package: 'util-linux' },
  });
  await expect(startProcess('no-such-program')).rejects.toMatchObject({ code: 'config_error' });
  await expect(runProcess('zstd', { env, timeoutMs: 1000 })).rejects.toMatchObject({ code: 'config_error' });
});

it('tells a file that is no program, and a directory that is not there', async () => {
  const path = join(await temporaryDirectory(), 'plain');
  await writeFile(path, 'text');
  await expect(startProcess(path)).rejects.toMatchObject({ code: 'config_error' });
  await chmod(path, 0o755);
  await expect(startProcess(path, { cwd: '/no/such/place' })).rejects.toMatchObject({
    code: 'storage_error',
    message: expect.stringContaining('/no/such/place'),
  });
});

it('says how a process ended, with the end of its complaints', async () => {
  const script = 'i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; echo out; exit 7';
  const result = await runProcess('sh', sh(script, { timeoutMs: 20_000 }) as never);
  expect(result).toMatchObject({ code: 7, signal: null, timedOut: false, truncated: false });
  expect(result.stdout.toString()).toBe('out\n');
  expect(result.stderr.endsWith('line 2999')).toBe(true);
  expect(result.stderr.length).toBeLessThanOrEqual(4096);
});

it('gives a process its input, also one that does not read it', async () => {
  const input = Buffer.alloc(1_000_000, 'x');
  const counted = await runProcess('wc', { args: ['-c'], input, timeoutMs: 20_000 });
  expect(counted.stdout.toString().trim()).toBe('1000000');
  expect(await runProcess('true', { input, timeoutMs: 20_000 })).toMatchObject({ code: 0 });
});

it('kills what takes too long, writes too much or is cancelled, and leaves no process', async () => {
  const started = performance.now();
  const late = runProcess('sh', { args: ['-c', 'sleep 1000 & wait'], session: true, timeoutMs: 200 });
  await expect(late).rejects.toMatchObject({ code: 'timeout' });
  const loud = await runProcess('yes', { maxOutputBytes: 1000, timeoutMs: 20_000 });
  expect(loud).toMatchObject({ truncated: true, signal: 'SIGKILL' });
  expect(loud.stdout).toHaveLength(1000);
  const cancelled = runProcess('sleep', {
    args: ['1000'],
    timeoutMs: 20_000,
    signal: AbortSignal.timeout(100),
  });
  await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' });
  await expect(startProcess('true', { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'cancelled',
  });
  expect(performance.now() - started).toBeLessThan(15_000);
});

it('asks first and kills then, and what is not released ends with its owner', async () => {
  await using stubborn = await startProcess('sh', {
    args: ['-c', 'trap "" TERM; echo ready; while :; do sleep 0.05; done'],
    session: true,
    stdout: 'pipe',
  });
  for await (const chunk of stubborn.stdout) {
    expect(String(chunk)).toBe('ready\n');
    break;
  }
  await stubborn.stop(200);
  expect(await stubborn.exited).toMatchObject({ code: null, signal: 'SIGKILL' });

  let owned: Awaited<ReturnType<typeof identify>>;
  let released: Awaited<ReturnType<typeof identify>>;
  {
    await using first = await startProcess('sleep', { args: ['1000'] });
    await using second = await startProcess('sleep', { args: ['1000'] });
    owned = await identify(first.pid);
    released = await identify(second.pid);
    second.release();
  }
  if (!owned || !released) throw new Error('they did not start');
  expect(await isAlive(owned)).toBe(false);
  expect(await isAlive(released)).toBe(true);
  process.kill(released.pid, 'SIGKILL');
});

/** What a program of its own says of starts at the limits of the host. */
async function atLimits(script: string, through: readonly string[] = []): Promise<unknown> {
  const entry = await builtEntry('base/process/index.ts');
  const program = `
    import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
    import { runProcess } from ${JSON.stringify(entry)};
    const codes = [];
    const attempt = async (more = {}) => {
      const { code, stdout } = await runProcess('sh', { args: ['-c', 'ls /proc/self/fd'], timeoutMs: 20_000, ...more })
        .catch((error) => ({ code: error.code, stdout: error.details?.errno }));
      codes.push(code === 0 ? 'ran' : \`\${code} \${stdout}\`);
    };
    ${script}
    console.log(JSON.stringify(codes));`;
  const [command = '', ...args] = [...through, process.execPath, '--input-type=module', '-e', program];
  const { stdout } = await promisify(execFile)(command, args, { timeout: 30_000 });
  return JSON.parse(stdout);
}

it('is refused by a full table of descriptors with an error, and goes on when there is room', async () => {
  const full = `
    await attempt();
    const taken = [];
    try { for (;;) taken.push(openSync('/dev/null')); } catch {}
    await attempt();
    await attempt({ input: 'x' });
    for (let left = 1; left <= 3; left += 1) {
      closeSync(taken.pop());
      await attempt({ input: 'x' });
    }
    for (const fd of taken) closeSync(fd);
    await attempt({ input: 'x' });`;
  const refused = 'resource_exhausted EMFILE';
  expect(await atLimits(full, ['prlimit', '--nofile=200'])).toEqual([
    'ran',
    ...Array(5).fill(refused),
    'ran',
  ]);
});

it('is refused by the limit of processes with an error, and goes on when there is room', async () => {
  // Of a user of its own, whose processes nobody else counts; root has no such limit.
  const other = ['setpriv', '--reuid=1878000001', '--regid=1878000001', '--clear-groups', '--'];
  const limited = `
    await attempt();
    const { execFileSync } = await import('node:child_process');
    execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:']);
    await attempt();
    await attempt({ input: 'x' });`;
  const refused = 'resource_exhausted EAGAIN';
  expect(await atLimits(limited, other)).toEqual(['ran', refused, refused]);
});

it('passes on no descriptor that this process was given without being asked', async () => {
  const path = join(await temporaryDirectory(), 'lock');
  // Above a gap, where Node does not look: 50 is such as a shell's lock, 251 a shell's own.
  const script = `
    exec 50> '${path}' 251> '${path}'
    exec "$@"`;
  const look = `
    const { stdout } = await runProcess('ls', { args: ['-l', '/proc/self/fd'], timeoutMs: 20_000 });
    codes.push(readFileSync('/proc/self/fdinfo/50', 'utf8') !== '', stdout.includes(${JSON.stringify(path)}));`;
  expect(await atLimits(look, ['bash', '-c', script, 'bash'])).toEqual([true, false]);
});
