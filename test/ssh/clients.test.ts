import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmod,
  mkdir,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../image/support/registry.js';
import { spawnCli } from '../support/cli.js';
import { plainEnv, type SshStage, sshStage } from './stage.js';

let stage: SshStage;
const big = randomBytes(3_000_000);
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

beforeAll(async () => {
  stage = await sshStage();
});
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
});

const ssh = (args: readonly string[], input?: Buffer) =>
  execa('ssh', ['-F', join(stage.directory, 'config'), ...args], {
    ...(input ? { input } : { stdin: 'ignore' }),
    env: plainEnv,
    encoding: 'buffer',
    reject: false,
    timeout: 60_000,
    stripFinalNewline: false,
  });

describe("Debian's ssh", () => {
  it('runs a line in a box, with its input, both outputs and exit code', async () => {
    const ended = await ssh([stage.host, 'pwd; echo err >&2; sha256sum; exit 7'], big);
    expect([ended.exitCode, Buffer.from(ended.stderr).toString()]).toEqual([7, 'err\n']);
    expect(Buffer.from(ended.stdout).toString()).toBe(`/root\n${sha256(big)}  -\n`);
    const back = await ssh([stage.host, 'cat'], big);
    expect(sha256(Buffer.from(back.stdout))).toBe(sha256(big));
  });

  it('gets both outputs whole, when each is more than a client takes at once', async () => {
    const line = 'head -c 5000000 /dev/zero; yes | head -c 5000000 >&2; echo end; echo end >&2';
    const { stdout, stderr } = await ssh([stage.host, line]);
    expect(sha256(Buffer.from(stdout))).toBe(
      sha256(Buffer.concat([Buffer.alloc(5_000_000), Buffer.from('end\n')])),
    );
    expect(sha256(Buffer.from(stderr))).toBe(sha256(Buffer.from(`${'y\n'.repeat(2_500_000)}end\n`)));
  });

  it('is started by the command line, which passes on how the command ended', async () => {
    const keys = ['--keys', join(stage.directory, 'keys')];
    const args = ['ssh', ...keys, '-u', 'user', 'dev', 'id -un; pwd; echo "$TERM$0"; exit 3'];
    const { exitCode, stdout, stderr } = await spawnCli(stage.home, args);
    expect([exitCode, stdout, stderr]).toEqual([3, 'user\n/home/user\n/bin/sh\n', '']);
    const none = await spawnCli(stage.home, ['ssh', ...keys, 'nosuch']);
    expect([none.exitCode, none.stderr]).toEqual([125, expect.stringContaining('No box "nosuch"')]);
    const killed = await ssh([stage.host, 'kill -9 $$']);
    expect(killed.exitCode).toBe(255);
  });

  it('has a terminal, whose keys reach what runs in it', async () => {
    const config = join(stage.directory, 'config');
    const client = execa('ssh', ['-F', config, '-tt', stage.host], { env: plainEnv, reject: false });
    let seen = '';
    client.stdout.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    const says = (text: string) => expect.poll(() => seen, { timeout: 20_000 }).toContain(text);
    client.stdin.write('tty; sleep 600; echo "in""terrupted"\n');
    await says('/dev/pts/');
    await expect
      .poll(async () => (await stage.box.exec('ps')).stdout, { timeout: 20_000 })
      .toContain('sleep 600');
    client.stdin.write('\x03');
    client.stdin.write('echo "go""ing on"; exit 5\n');
    await says('going on');
    expect((await client).exitCode).toBe(5);
  });

  it('forwards ports, and says when nobody listens', async () => {
    const [port, closed] = [await freePort(), await freePort()];
    await stage.box.startExec("while true; do nc -l -p 7000 -e sh -c 'sha256sum'; done");
    await stage.box.waitForPort(7000);
    const config = join(stage.directory, 'config');
    const forwards = ['-L', `127.0.0.1:${port}:localhost:7000`, '-L', `127.0.0.1:${closed}:127.0.0.1:9`];
    const words = ['-F', config, ...forwards, '-N', stage.host];
    await using client = execa('ssh', words, { env: plainEnv, reject: false, stdin: 'ignore' });
    const ask = async (to: number, bytes: Buffer): Promise<string> => {
      const socket = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true });
      const answer: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => answer.push(chunk));
      socket.end(bytes);
      await once(socket, 'close').catch(() => undefined);
      return Buffer.concat(answer).toString();
    };
    await expect.poll(() => ask(port, big), { timeout: 30_000 }).toContain(sha256(big));
    expect(await ask(closed, Buffer.from('?'))).toBe('');
    client.kill();
    expect((await client).stderr).toContain('connect failed');
  });
});

describe('commands whose client is gone', () => {
  const running = async (name: string) => (await stage.box.exec('ps')).stdout.includes(name);

  it('get SIGHUP, and are killed when they do not mind', async () => {
    const config = join(stage.directory, 'config');
    const line = "sleep 701 & trap '' HUP; sleep 702; sleep 703";
    const client = execa('ssh', ['-F', config, stage.host, line], { env: plainEnv, reject: false });
    await expect.poll(() => running('sleep 702'), { timeout: 20_000 }).toBe(true);
    client.kill('SIGKILL');
    await client;
    await expect.poll(() => running('sleep 70'), { timeout: 20_000 }).toBe(false);
  });

  it('may leave what they put into the background when they end in order', async () => {
    await stage.line('(sleep 711 >/dev/null 2>&1 </dev/null &)');
    expect(await running('sleep 711')).toBe(true);
  });
});

describe("Debian's scp and sftp", () => {
  it('copy trees both ways, with modes and times', async () => {
    const tree = join(stage.directory, 'tree');
    await mkdir(join(tree, 'empty'), { recursive: true });
    await writeFile(join(tree, 'big'), big);
    await writeFile(join(tree, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
    await writeFile(join(tree, "it's ü"), '');
    await chmod(join(tree, 'empty'), 0o700);
    await utimes(join(tree, 'big'), 1_600_000_000, 1_600_000_000);
    const to = await stage.run('scp', ['-r', '-p', '-q', tree, `${stage.host}:copied`]);
    expect(to).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    expect(await stage.line('cd copied && stat -c "%n %a" * && stat -c %Y big')).toBe(
      ['big 644', 'empty 700', "it's ü 644", 'run.sh 755', '1600000000', ''].join('\n'),
    );
    const back = join(stage.directory, 'back');
    expect((await stage.run('scp', ['-r', '-p', '-q', `${stage.host}:copied`, back])).exitCode).toBe(0);
    expect(await readdir(back)).toEqual(await readdir(tree));
    expect(sha256(await readFile(join(back, 'big')))).toBe(sha256(big));
    expect((await stat(join(back, 'big'))).mtimeMs).toBe(1_600_000_000_000);
    expect((await stat(join(back, 'run.sh'))).mode & 0o777).toBe(0o755);
  });

  it('do all that a file transfer has words for, and say what cannot be', async () => {
    const batch = join(stage.directory, 'batch');
    const source = join(stage.directory, 'source');
    await writeFile(source, big);
    const lines = [
      'pwd',
      'mkdir work',
      'cd work',
      `put ${source} one`,
      'rename one two',
      'symlink two link',
      `get link ${source}.back`,
      'chmod 640 two',
      'chown 1000 two',
      'chgrp 1000 two',
      'ls -ln',
      '-mkdir /root/work',
      '-rm nosuch',
      '-rmdir /root/work',
      '-rename two link',
      `-put ${source} /nosuch/x`,
      '-cd /etc/passwd/x',
      'rm link',
      'cd ..',
    ];
    await writeFile(batch, `${lines.join('\n')}\n`);
    const ended = await stage.run('sftp', ['-b', batch, stage.host]);
    expect([ended.exitCode, ended.stderr]).toEqual([0, expect.anything()]);
    expect(ended.stdout).toContain('Remote working directory: /root\n');
    expect(ended.stdout).toMatch(/^lrwxrwxrwx .* link$/m);
    expect(ended.stdout).toMatch(/^-rw-r----- .* 1000 +1000 +3000000 .* two$/m);
    for (const said of [
      '/root/work": Failure',
      'nosuch: No such file',
      'dest open "/nosuch/x": No such file',
    ])
      expect(ended.stderr).toContain(said);
    expect(sha256(await readFile(`${source}.back`))).toBe(sha256(big));
    expect(await stage.line('cd work; ls; sha256sum two')).toBe(`two\n${sha256(big)}  two\n`);
  });

  it('make files of the user who logs in', async () => {
    const small = join(stage.directory, 'small');
    await writeFile(small, 'mine\n');
    expect((await stage.run('scp', [small, `user@${stage.host}:mine`])).exitCode).toBe(0);
    expect(await stage.box.files.stat('/home/user/mine')).toMatchObject({
      uid: 1000,
      gid: 1000,
      mode: 0o644,
    });
  });
});

it('rsync works over it, where the box has rsync', async () => {
  // The host's own rsync, with the libraries it needs.
  const { stdout: path } = await execa('which', ['rsync']);
  const { stdout: needed } = await execa('ldd', [path]);
  const libraries = [...needed.matchAll(/(\/\S+) \(0x/g)].map(([, library = '']) => library);
  expect(libraries.length).toBeGreaterThan(2);
  await stage.line('mkdir -p /lib64 /lib/x86_64-linux-gnu /usr/bin');
  const loader = libraries.filter((library) => library.includes('/ld-linux'));
  const others = libraries.filter((library) => !loader.includes(library));
  const put = async (from: readonly string[], to: string) => {
    const copied = await stage.run('scp', ['-q', ...from, `${stage.host}:${to}`]);
    expect(copied).toEqual({ exitCode: 0, stdout: '', stderr: '' });
  };
  await put(loader, '/lib64/');
  await put(others, '/lib/x86_64-linux-gnu/');
  await put([path], '/usr/bin/rsync');
  const tree = join(stage.directory, 'rsynced');
  await mkdir(join(tree, 'deep/er'), { recursive: true });
  await writeFile(join(tree, 'deep/er/big'), big);
  await symlink('deep/er/big', join(tree, 'link'));
  const rsync = async (...args: readonly string[]) => {
    const shell = `ssh -F ${join(stage.directory, 'config')}`;
    return await execa('rsync', ['-a', '-i', '-e', shell, ...args], { env: plainEnv, timeout: 60_000 });
  };
  expect((await rsync(`${tree}/`, `${stage.host}:rsynced`)).stdout).toContain('deep/er/big');
  expect(await stage.line('sha256sum < rsynced/link')).toBe(`${sha256(big)}  -\n`);
  expect((await rsync(`${tree}/`, `${stage.host}:rsynced`)).stdout).toBe('');
  const back = join(stage.directory, 'rsynced-back');
  await rsync(`${stage.host}:rsynced/`, back);
  expect([await readlink(join(back, 'link')), sha256(await readFile(join(back, 'link')))]).toEqual([
    'deep/er/big',
    sha256(big),
  ]);
});
