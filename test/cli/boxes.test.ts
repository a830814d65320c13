import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cliEnv, cliPath, mustRun, runCli, spawnCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
let directory: string;
const cli = (...args: string[]) => runCli(home.path, ...args);
const must = (...args: string[]) => mustRun(home.path, ...args);

beforeAll(async () => {
  home = await newHome();
  directory = await mkdtemp(join(tmpdir(), 'cryobox-cli-'));
  await must('create', '--name', 'b', '--label', 'team=x', 'tiny');
});
afterAll(async () => {
  await cli('rm', '--force', 'b');
  await cli('engine', 'stop');
  await home[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

describe('boxes', () => {
  it('are listed, inspected, stopped and started', async () => {
    const [box] = JSON.parse(await must('ls', '--format', 'json'));
    expect(box).toMatchObject({
      name: 'b',
      status: 'running',
      cpus: 1,
      memoryMiB: 512,
      labels: { team: 'x' },
    });
    const table = await must('ls');
    expect(table).toMatch(/^ID +NAME +IMAGE +STATUS +CPUS/);
    expect(table).toContain(box.id.slice(0, 18));
    expect(await must('ls', '--no-trunc')).toContain(box.id);
    await must('stop', 'b');
    expect(JSON.parse(await must('inspect', 'b', '--format', 'json')).status).toBe('stopped');
    expect(await must('ls', '-q', '--status', 'running')).toBe('');
    expect(await must('start', 'b')).toBe('b\n');
    expect(await must('inspect', box.id)).toMatch(/status: +running/);
    expect(JSON.parse(await must('inspect', 'b', '--format', 'json')).stages).not.toEqual({});
  });

  it('are compared with their images and snapshots, file by file', async () => {
    await must(
      'exec',
      'b',
      'sh',
      '-c',
      'mkdir -p /root/new/er; echo 1 > /root/new/er/a; echo 1 > /root/new/er/b',
    );
    await must('snapshot', 'create', 'b', 's1');
    const ofImage = (await must('diff', 'b@s1')).split('\n');
    expect(ofImage).toEqual(expect.arrayContaining(['C /root', 'A /root/new', 'A /root/new/er/a']));
    await must('exec', 'b', 'sh', '-c', 'rm -r /root/new; echo 2 > /root/other');
    const refused = await cli('diff', 'b@s1', 'b');
    expect([refused.exitCode, refused.stdout]).toEqual([125, '']);
    expect(refused.stderr).toContain('cryobox snapshot create');
    await must('snapshot', 'create', 'b', 's2');
    expect(await must('diff', 'b@s1', 'b@s2')).toBe('C /root\nD /root/new\nA /root/other\n');
    const all = JSON.parse(await must('diff', '--format', 'json', 'b@s1', 'b@s2'));
    expect(all.map(({ path }: { path: string }) => path)).toContain('/root/new/er/a');
    expect((await cli('diff', 'b@')).exitCode).toBe(125);
    await must('snapshot', 'rm', 'b', 's1', 's2');
  });

  it('refuse a second one of the same name', async () => {
    const { exitCode, stdout, stderr } = await cli('create', '--name', 'b', 'tiny');
    expect([exitCode, stdout]).toEqual([125, '']);
    expect(stderr).toContain('hint: Choose another name, or remove the old one first.');
  });

  it('are handled one by one: a failure does not stop the others', async () => {
    const id = (await must('create', 'tiny')).trim();
    const { exitCode, stdout, stderr } = await cli('rm', '-f', 'nobody', id);
    expect([exitCode, stdout]).toEqual([125, `${id}\n`]);
    expect(stderr).toContain('nobody');
  });

  it('show their console', async () => {
    const { exitCode, stdout } = await cli('logs', '-n', '1', 'b');
    expect(exitCode).toBe(0);
    expect(stdout.split('\n').length).toBeLessThanOrEqual(2);
  });
});

describe('archives', () => {
  it('tell which values they leave out, and take them at import', async () => {
    await must('create', '--name', 'given', '-e', 'TOKEN=first', '-e', 'PLACE=here', 'tiny');
    const archive = join(directory, 'given.boxsnap');
    await must('export', 'given', archive);
    const variables = join(directory, 'variables');
    await writeFile(variables, 'TOKEN=second\n');
    const { exitCode, stderr } = await cli('import', '--name', 'taken', '--env-file', variables, archive);
    expect([exitCode, stderr]).toEqual([
      0,
      expect.stringContaining('no value, for archives leave them out: PLACE;'),
    ]);
    expect(await must('exec', 'taken', 'sh', '-c', 'echo "$TOKEN$PLACE"')).toBe('second\n');
    const whole = await cli('import', '-e', 'TOKEN=a', '-e', 'PLACE=b', '--name', 'whole', archive);
    expect([whole.exitCode, whole.stderr.includes('no value')]).toEqual([0, false]);
    await must('rm', '-f', 'given', 'taken', 'whole');
  });
});

describe('cp', () => {
  it('copies trees both ways and keeps links', async () => {
    await writeFile(join(directory, 'file'), 'content', { mode: 0o640 });
    await symlink('file', join(directory, 'link'));
    await must('cp', directory, 'b:/tmp/tree');
    expect(
      await must('exec', 'b', 'sh', '-c', 'cd /tmp/tree; cat file; readlink link; stat -c %a file'),
    ).toBe('contentfile\n640\n');
    await must('cp', 'b:/tmp/tree/file', join(directory, 'back'));
    expect(await readFile(join(directory, 'back'), 'utf8')).toBe('content');
  });

  it('takes and gives tar streams', async () => {
    const file = join(directory, 'etc.tar');
    expect((await spawnCli(home.path, ['cp', 'b:/etc', '-'], { stdout: { file } })).exitCode).toBe(0);
    const listing = await execa('tar', ['-tf', file]);
    expect(listing.stdout).toContain('passwd');
  });

  it('says what it does not do', async () => {
    const { exitCode, stderr } = await cli('cp', '/a', '/b');
    expect(exitCode).toBe(125);
    expect(stderr).toContain('hint: Write exactly one side as BOX:PATH.');
  });
});

describe('exec', () => {
  it('passes Ctrl-C to the command, which may handle it', async () => {
    const script = 'trap "echo caught; exit 3" INT; echo ready; while true; do usleep 10000; done';
    const process = spawnCli(home.path, ['exec', 'b', 'sh', '-c', script], {});
    process.stdout?.once('data', () => process.kill('SIGINT'));
    const { exitCode, stdout } = await process;
    expect([exitCode, stdout]).toEqual([3, 'ready\ncaught\n']);
  });

  it('ends a command after its time limit', async () => {
    const { exitCode } = await cli('exec', '--timeout', '300ms', 'b', 'sleep', '1000');
    expect(exitCode).toBe(124);
  });

  it('gives the command a terminal of our size', async () => {
    const command = `${process.execPath} ${cliPath} exec -it b stty size`;
    const { stdout } = await execa('script', ['-qec', `stty rows 33 cols 99; ${command}`, '/dev/null'], {
      env: cliEnv(home.path),
      // Open until the end: script(1) would echo an end of file.
      stdin: 'pipe',
      timeout: 60_000,
    });
    expect(stdout.trim()).toBe('33 99');
  });

  it('leaves what the terminal of the box writes as it is, and ours as it was', async () => {
    const script = 'stty -onlcr; printf "abc\\ndef\\n"; echo TERM=$TERM';
    const command = `${process.execPath} ${cliPath} exec -it b sh -c '${script}'`;
    const { stdout } = await execa(
      'script',
      ['-qec', `${command}; stty -a | grep -oE '^-?opost'`, '/dev/null'],
      {
        env: cliEnv(home.path),
        stdin: 'pipe',
        timeout: 60_000,
        stripFinalNewline: false,
      },
    );
    expect(stdout).toBe('abc\ndef\nTERM=xterm\nopost\r\n');
  });

  it('can be left and taken up again', async () => {
    const id = (await must('exec', '-d', 'b', 'sh', '-c', 'echo kept; exit 5')).trim();
    const { exitCode, stdout } = await cli('attach', 'b', id);
    expect([exitCode, stdout]).toEqual([5, 'kept\n']);
  });
});

describe('the engine', () => {
  it('may be killed; the box goes on and the next command finds it', async () => {
    await must('exec', 'b', 'sh', '-c', 'echo $$ > /dev/null; sleep 1000 </dev/null >/dev/null 2>&1 &');
    const { pid } = JSON.parse(await must('engine', 'status', '--format', 'json'));
    process.kill(pid, 'SIGKILL');
    expect(await must('exec', 'b', 'sh', '-c', 'ps | grep -c "[s]leep 1000"')).toBe('1\n');
    const status = JSON.parse(await must('engine', 'status', '--format', 'json'));
    expect(status).toMatchObject({ running: true, answering: true });
    expect(status.pid).not.toBe(pid);
  });

  it('is stopped and started by command', async () => {
    await must('engine', 'stop');
    expect((await cli('engine', 'status')).exitCode).toBe(1);
    await must('engine', 'start');
    expect((await cli('engine', 'status')).exitCode).toBe(0);
  });
});
