import { once } from 'node:events';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { openLocal } from '../../dist/home/index.js';
import { mustRun, runCli, spawnCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';
import { partOf } from '../support/part.js';
import { spawnProgram } from '../support/program.js';
import { temporaryDirectory } from '../support/temporary.js';

// Several programs and engines are started by each: where the processors are busy, that takes its time.
vi.setConfig({ testTimeout: 180_000 });

let home: TestHome;
beforeEach(async () => {
  home = await newHome();
});
afterEach(async () => {
  for (const line of (await mustRun(home.path, 'ls', '-q')).split('\n').filter(Boolean)) {
    await runCli(home.path, 'rm', '-f', line);
  }
  await runCli(home.path, 'engine', 'stop');
  await home[Symbol.asyncDispose]();
});

const engineOf = async (): Promise<{ pid: number; kind: string; version: string }> =>
  JSON.parse((await runCli(home.path, 'engine', 'status', '--format', 'json')).stdout);

/** The next lines of a program. */
function linesOf(program: ReturnType<typeof spawnProgram>): () => Promise<string> {
  const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  return async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the program has ended: ${(await program).stderr}`);
    return value as string;
  };
}

it.each(partOf(['background', 'in-process'], 2))(
  'three programs open a home at the same moment, engine %s',
  async (engine) => {
    const code = `
    const runtime = await Cryobox.local({ engine: '${engine}', poolSize: 0 });
    await runtime.list();
    await runtime.list();
    await runtime.close();
  `;
    const programs = [1, 2, 3].map(() => spawnProgram(home.path, code));
    for (const program of programs) expect(await program).toMatchObject({ exitCode: 0, stderr: '' });
  },
);

it('a program goes on, with its streams, when the one that has the engine in it closes', async () => {
  const first = spawnProgram(
    home.path,
    `const runtime = await Cryobox.local({ engine: 'in-process', poolSize: 0 });
     await runtime.list();
     await say('open');
     await line();
     await runtime.close();`,
  );
  expect(await linesOf(first)()).toBe('open');
  const second = spawnProgram(
    home.path,
    `const runtime = await Cryobox.local();
     const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
     const waiting = box.exec(['sh', '-c', 'read x < /dev/null; while [ ! -e /root/go ]; do sleep 0.05; done; echo waited']);
     const script = 'echo started; while [ ! -e /root/go ]; do sleep 0.05; done; cat; echo finished; exit 3';
     const execution = await box.startExec(['sh', '-c', script], { stdin: true });
     const output = (async () => { let text = ''; for await (const it of execution.stdout) { text += Buffer.from(it); if (text === 'started\\n') await say('started'); } return text; })();
     await line();
     await box.files.write('/root/go', '');
     await execution.stdin.write('typed\\n');
     await execution.stdin.end();
     await say(JSON.stringify([await output, (await execution.wait()).exitCode, String((await waiting).stdout)]));
     await say((await runtime.list()).length + ' ' + (await box.info()).status);
     await runtime.close();`,
  );
  const next = linesOf(second);
  expect(await next()).toBe('started');
  const owner = await engineOf();
  expect(owner).toMatchObject({ pid: first.pid, kind: 'in-process' });
  first.stdin.end('go\n');
  expect(await first).toMatchObject({ exitCode: 0, stderr: '' });
  second.stdin.end('go\n');
  expect(JSON.parse(await next())).toEqual(['started\ntyped\nfinished\n', 3, 'waited\n']);
  expect(await next()).toBe('1 running');
  expect(await second).toMatchObject({ exitCode: 0, stderr: '' });
  expect(await engineOf()).toMatchObject({ kind: 'background' });
});

it('two runtimes of one process share the engine in it', async () => {
  const options = { home: home.path, engine: 'in-process', poolSize: 0 } as const;
  const [first, second] = await Promise.all([openLocal(options), openLocal(options)]);
  expect(await engineOf()).toMatchObject({ pid: process.pid, kind: 'in-process' });
  await first.close();
  await first.close();
  expect(await second.list()).toEqual([]);
  const third = openLocal(options);
  await second.close();
  expect(await (await third).list()).toEqual([]);
  await (await third).close();
});

it('calls and streams go on when the engine is killed under them', async () => {
  const runtime = await openLocal({ home: home.path, poolSize: 0 });
  const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
  const script = 'echo started; while [ ! -e /root/go ]; do sleep 0.05; done; echo finished; exit 3';
  const execution = await box.startExec(['sh', '-c', script]);
  const { pid } = await engineOf();
  process.kill(pid, 'SIGKILL');
  const stages: string[] = [];
  const made = runtime.create({
    image: 'tiny',
    name: 'second',
    detach: true,
    onProgress: ({ stage }) => {
      stages.push(stage);
    },
  });
  expect((await (await made).exec(['echo', 'here'])).stdout.toString()).toBe('here\n');
  await box.files.write('/root/go', '');
  let output = '';
  for await (const chunk of execution.stdout) output += Buffer.from(chunk).toString();
  expect(output).toBe('started\nfinished\n');
  expect(await execution.wait()).toMatchObject({ exitCode: 3 });
  expect((await engineOf()).pid).not.toBe(pid);
  await runtime.close();
});

it('an owner that dies while it starts is replaced', async () => {
  const lock = new URL('../../dist/engine/core/lock.js', import.meta.url).href;
  const code = `
    import { lockHome } from ${JSON.stringify(lock)};
    await lockHome(${JSON.stringify(join(home.path, 'engine.lock'))});
    process.stdout.write('locked');
    setInterval(() => {}, 1000);
  `;
  const dying = execa(process.execPath, ['--input-type=module', '-e', code], { reject: false });
  await once(dying.stdout, 'data');
  const opened = openLocal({ home: home.path, poolSize: 0 });
  const opening = await Promise.race([opened, delay(500).then(() => 'waiting')]);
  expect(opening).toBe('waiting');
  dying.kill('SIGKILL');
  const runtime = await opened;
  expect(await runtime.list()).toEqual([]);
  await runtime.close();
});

it('an engine of an earlier release hands its home and machines over', async () => {
  const earlier = await temporaryDirectory();
  await cp('dist', join(earlier, 'dist'), { recursive: true });
  const manifest = JSON.parse(await readFile('package.json', 'utf8')) as object;
  await writeFile(join(earlier, 'package.json'), JSON.stringify({ ...manifest, version: '0.0.1' }));
  await symlink(join(process.cwd(), 'node_modules'), join(earlier, 'node_modules'));
  const old = (...args: string[]) =>
    execa(process.execPath, [join(earlier, 'dist/cli/main.js'), ...args], {
      env: { CRYOBOX_HOME: home.path },
    });
  await old('create', '--name', 'kept', 'tiny');
  const before = await engineOf();
  expect(before).toMatchObject({ kind: 'background', version: '0.0.1' });
  const runtime = await openLocal({ home: home.path });
  const after = await engineOf();
  expect(after.version).not.toBe('0.0.1');
  expect(after.pid).not.toBe(before.pid);
  expect((await runtime.list()).map(({ name, status }) => [name, status])).toEqual([['kept', 'running']]);
  await runtime.close();
  // A newer engine is no reason for an older program to end it.
  await old('ls');
  expect((await engineOf()).pid).toBe(after.pid);
});

it('serve takes a home over from the engine in the background, and clients go on with it', async () => {
  const runtime = await openLocal({ home: home.path, poolSize: 0 });
  const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
  const before = await engineOf();
  const server = spawnCli(home.path, ['serve', '--port', '0'], {});
  const [line] = await once(server.stdout ?? expect.unreachable(), 'data');
  expect(String(line)).toMatch(/^http:/);
  expect(await engineOf()).toMatchObject({ kind: 'serve', pid: server.pid });
  expect((await engineOf()).pid).not.toBe(before.pid);
  expect((await box.exec(['echo', 'here'])).stdout.toString()).toBe('here\n');
  const second = await runCli(home.path, 'serve', '--port', '0');
  expect(second).toMatchObject({ exitCode: 125, stderr: expect.stringContaining(`(process ${server.pid})`) });
  expect(second.stderr).toContain('cryobox engine stop');
  server.kill('SIGINT');
  expect((await server).exitCode).toBe(0);
  expect((await box.exec(['echo', 'again'])).stdout.toString()).toBe('again\n');
  await runtime.close();
});

it('serve and engine stop leave a program alone that has the engine in it', async () => {
  const program = spawnProgram(
    home.path,
    `const runtime = await Cryobox.local({ engine: 'in-process', poolSize: 0 });
     await say('open');
     await line();
     await runtime.close();`,
  );
  expect(await linesOf(program)()).toBe('open');
  const served = await runCli(home.path, 'serve', '--port', '0');
  expect([served.exitCode, served.stderr]).toEqual([
    125,
    expect.stringContaining(`(process ${program.pid})`),
  ]);
  const stopped = await runCli(home.path, 'engine', 'stop');
  expect([stopped.exitCode, stopped.stderr]).toEqual([125, expect.stringContaining('End that program')]);
  expect((await runCli(home.path, 'ls')).exitCode).toBe(0);
  program.stdin.end('go\n');
  expect(await program).toMatchObject({ exitCode: 0 });
});

it('an engine whose home was removed ends', async () => {
  const other = join(await temporaryDirectory(), 'home');
  await mkdir(other);
  const engine = spawnCli(other, ['engine', 'run'], { env: { CRYOBOX_IDLE_EXIT: '10s' } });
  const answering = async () =>
    JSON.parse((await runCli(other, 'engine', 'status', '--format', 'json')).stdout).answering;
  await expect.poll(answering, { timeout: 60_000 }).toBe(true);
  await execa('rm', ['-rf', other]);
  const { exitCode, stderr } = await engine;
  expect([exitCode, String(stderr)]).toEqual([0, expect.not.stringContaining('error:')]);
});
