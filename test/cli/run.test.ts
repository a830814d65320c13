import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mustRun, runCli, spawnCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
const cli = (...args: string[]) => runCli(home.path, ...args);
const must = (...args: string[]) => mustRun(home.path, ...args);

beforeAll(async () => {
  home = await newHome();
});
afterAll(async () => {
  const boxes = (await must('ls', '-q')).split('\n').filter(Boolean);
  if (boxes.length > 0) await must('rm', '--force', ...boxes);
  await must('engine', 'stop');
  await home[Symbol.asyncDispose]();
});

const boxCount = async () => JSON.parse(await must('ls', '--format', 'json')).length as number;

describe('run', () => {
  it('prints exactly what the command prints, and leaves no box with --rm', async () => {
    const { exitCode, stdout } = await cli('run', '--rm', 'tiny', '--', 'sh', '-c', 'echo $((6 * 7))');
    expect([exitCode, stdout]).toEqual([0, '42\n']);
    expect(await boxCount()).toBe(0);
  });

  it('keeps stdout and stderr apart and passes the exit code on', async () => {
    const command = 'echo out; echo err >&2; exit 7';
    const { exitCode, stdout, stderr } = await cli('run', '--rm', 'tiny', 'sh', '-c', command);
    expect([exitCode, stdout, stderr]).toEqual([7, 'out\n', 'err\n']);
  });

  it('runs with the environment, directory and user it is given', async () => {
    const command = 'echo $A:$B:$(pwd):$(id -u)';
    const options = ['-e', 'A=1 2', '-e', 'B=', '-w', '/tmp', '-u', 'user'];
    expect(await must('run', '--rm', ...options, 'tiny', 'sh', '-c', command)).toBe('1 2::/tmp:1000\n');
  });

  it('keeps a box without --rm, stopped', async () => {
    expect(await must('run', '--name', 'kept', 'tiny', 'sh', '-c', 'echo data > /file')).toBe('');
    const [box] = JSON.parse(await must('ls', '--format', 'json'));
    expect(box).toMatchObject({ name: 'kept', status: 'stopped' });
    expect(await must('exec', 'kept', 'cat', '/file')).toBe('data\n');
    await must('rm', '-f', 'kept');
  });

  it('leaves a command running with --detach', async () => {
    const id = (await must('run', '-d', 'tiny', 'sh', '-c', 'echo $$ > /pid; exec sleep 1000')).trim();
    const command = 'until [ -s /pid ]; do usleep 10000; done; kill -0 $(cat /pid) && echo alive';
    expect(await must('exec', id, 'sh', '-c', command)).toBe('alive\n');
    await must('rm', '-f', id);
  });

  it('removes the box also when it is interrupted', async () => {
    const process = spawnCli(
      home.path,
      ['run', '--rm', 'tiny', 'sh', '-c', 'echo ready; exec sleep 1000'],
      {},
    );
    await once(process.stdout ?? expect.unreachable(), 'data');
    process.kill('SIGINT');
    expect((await process).exitCode).toBe(130);
    expect(await boxCount()).toBe(0);
  });
});

describe('failures', () => {
  it('tells a command that is not there from a shell that says so', async () => {
    const ours = await cli('run', '--rm', 'tiny', 'no-such-command');
    expect(ours.exitCode).toBe(127);
    expect(ours.stderr).toMatch(/^error: .*no-such-command/);
    expect(ours.stderr).toContain('\nhint: ');
    const shell = await cli('run', '--rm', 'tiny', 'sh', '-c', 'no-such-command');
    expect(shell.exitCode).toBe(127);
    expect(shell.stderr).not.toContain('error: ');
    expect(await boxCount()).toBe(0);
  });

  it('ends with 126 for what cannot be executed', async () => {
    const { exitCode, stderr } = await cli('run', '--rm', 'tiny', '/etc/passwd');
    expect([exitCode, stderr]).toEqual([126, expect.stringMatching(/^error: /)]);
  });

  it.each([
    [['run', '--rm', '127.0.0.1:1/no-such-image', 'true'], '127.0.0.1:1'],
    [['exec', 'no-such-box', 'true'], 'No box "no-such-box"'],
    [['run', '--rm', '--cpus', '99', 'tiny', 'true'], 'cpus'],
    [['run', '--rm', '-w', '/nowhere', 'tiny', 'true'], '/nowhere'],
    [['run', '--rm', '-u', 'nobody-here', 'tiny', 'true'], 'nobody-here'],
    [['run', '--rm', '--name', 'a/b', 'tiny', 'true'], 'name'],
  ])('ends with 125 and a hint for %j', async (argv, message) => {
    const { exitCode, stdout, stderr } = await cli(...argv);
    expect([exitCode, stdout]).toEqual([125, '']);
    expect(stderr).toContain(message);
    expect(stderr).toContain('\nhint: ');
    expect(await boxCount()).toBe(0);
  });
});

describe('streams', () => {
  it('passes 50 MB through a box unchanged, with stdin and stdout open at once', async () => {
    const total = 50_000_000;
    const sent = createHash('sha256');
    const chunk = randomBytes(1_000_000);
    const source = Readable.from(
      (async function* () {
        for (let at = 0; at < total; at += chunk.length) {
          chunk.writeUInt32LE(at, 0);
          const copy = Buffer.from(chunk);
          sent.update(copy);
          yield copy;
        }
      })(),
    );
    const process = spawnCli(home.path, ['run', '--rm', '-i', 'tiny', 'cat'], {
      stdin: 'pipe',
      input: source,
      buffer: false,
      encoding: 'buffer',
    });
    const received = createHash('sha256');
    let bytes = 0;
    for await (const part of process.stdout ?? expect.unreachable()) {
      received.update(part);
      bytes += part.length;
    }
    expect((await process).exitCode).toBe(0);
    expect(bytes).toBe(total);
    expect(received.digest('hex')).toBe(sent.digest('hex'));
  });

  it('ends when nobody reads its output, and ends the command', async () => {
    const box = (await must('create', 'tiny')).trim();
    const process = spawnCli(home.path, ['exec', box, 'yes'], { buffer: false });
    const output = process.stdout ?? expect.unreachable();
    await once(output, 'data');
    output.destroy();
    expect((await process).exitCode).toBe(141);
    expect(await must('exec', box, 'sh', '-c', 'ps | grep -c "[y]es" || true')).toBe('0\n');
    await must('rm', '-f', box);
  });
});
