import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mustRun, runCli, spawnCli } from '../support/cli.js';
import { newHome, type TestHome } from '../support/home.js';
import { writeTinyImage } from '../support/tiny-image.js';

let home: TestHome;
const cli = (...args: string[]) => runCli(home.path, ...args);
const must = (...args: string[]) => mustRun(home.path, ...args);

beforeAll(async () => {
  home = await newHome();
});
afterAll(async () => {
  await cli('engine', 'stop');
  await home[Symbol.asyncDispose]();
});

describe('doctor and info', () => {
  it('finds everything on a host that was set up', async () => {
    const { exitCode, stdout } = await cli('doctor', '--format', 'json');
    const checks = JSON.parse(stdout) as { name: string; status: string; hint?: string }[];
    expect(checks.filter(({ status }) => status === 'failed')).toEqual([]);
    expect(exitCode).toBe(0);
    for (const name of ['node', 'sqlite', 'qemu', 'accelerator', 'kernel', 'agent', 'userfaultfd', 'home']) {
      expect(checks.map((check) => check.name)).toContain(name);
    }
    expect(checks.filter(({ status, hint }) => status !== 'ok' && !hint)).toEqual([]);
  });

  it('refuses a prefix without a server, from wherever it comes', async () => {
    const told = expect.stringMatching(/the prefix "acme" needs a server[\s\S]*--url/);
    expect(await cli('--prefix', 'acme', 'ls')).toMatchObject({ exitCode: 125, stdout: '', stderr: told });
    const env = { CRYOBOX_PREFIX: 'acme' };
    expect(await spawnCli(home.path, ['ls'], { env })).toMatchObject({ exitCode: 125, stderr: told });
  });

  it('names what is missing, with what to do, and ends with 1', async () => {
    const { exitCode, stdout } = await spawnCli(home.path, ['doctor'], {
      env: { CRYOBOX_QEMU: '/no/such/qemu', CRYOBOX_CACHE: '/no/such/cache', CRYOBOX_ACCELERATOR: 'tcg' },
    });
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/failed +qemu +cannot run \/no\/such\/qemu.*\n +-> Install QEMU/);
    expect(stdout).toMatch(/failed +kernel +no guest kernel/);
  });

  it('says where everything is', async () => {
    const info = JSON.parse(await must('info', '--format', 'json'));
    expect(info).toMatchObject({ home: home.path, node: process.versions.node });
    expect(info.kernel).toMatch(/^\d+\.\d+/);
  });
});

describe('images', () => {
  it('are imported, listed, inspected and removed', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-layout-'));
    try {
      await writeTinyImage(directory, { files: { hello: 'hello' } });
      const made = JSON.parse(
        await must('images', 'import', directory, '--reference', 'mine', '--format', 'json'),
      );
      const listed = JSON.parse(await must('images', 'ls', '--format', 'json'));
      expect(listed.map(({ id }: { id: string }) => id)).toContain(made.configDigest);
      expect(JSON.parse(await must('images', 'inspect', 'mine', '--format', 'json')).layerCount).toBe(1);
      expect(await must('run', '--rm', 'mine', 'cat', '/hello')).toBe('hello');
      expect(await must('images', 'rm', 'mine')).toBe('mine\n');
      expect((await cli('images', 'inspect', 'mine')).exitCode).toBe(125);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});

describe('limits', () => {
  it('are set and taken back while the engine runs, shown by `limits ls` and `info`, and refuse what is beyond', async () => {
    await must('create', '--name', 'one', 'tiny');
    await must('limits', 'set', 'boxes=1', 'memory=64g', 'memory-overcommit=1.5');
    await must('limits', 'set', '--each-tenant', 'boxes=3');
    const { exitCode, stderr } = await cli('create', 'tiny');
    expect(exitCode).toBe(125);
    expect(stderr).toMatch(
      /the home has 1 of at most 1 boxes, and this needs 1 more[\s\S]*cryobox limits set/,
    );
    const uses = JSON.parse(await must('limits', 'ls', '--format', 'json'));
    expect(uses).toContainEqual({ scope: 'home', resource: 'boxes', used: 1, limit: 1 });
    expect(uses).toContainEqual(
      expect.objectContaining({ scope: 'home', resource: 'memoryMiB', limit: 65_536 }),
    );
    expect(await must('limits', 'ls')).toMatch(/^home +boxes +1 +1$/m);
    expect(await must('info')).toMatch(/home boxes.*1 of at most 1$/m);
    await must('limits', 'unset', 'boxes', 'memory', 'memory-overcommit');
    await must('limits', 'unset', '--each-tenant', 'boxes');
    expect(await must('limits', 'ls')).toMatch(/^home +boxes +1 +-$/m);
    await must('rm', '-f', 'one');
  });

  it.each([
    [['boxs=1'], /there is no limit "boxs"[\s\S]*Limits: boxes, running/],
    [['boxes'], /expected boxes=VALUE/],
    [['boxes=-1'], /boxes:/],
    [['memory-overcommit=5000'], /0 to 1000/],
    [['--tenant', 'acme', 'disk-free=1g'], /of no tenant/],
    [['--tenant', 'acme', '--each-tenant', 'boxes=1'], /not given together/],
    [['--tenant', 'a//b', 'boxes=1'], /cannot be the prefix of a tenant/],
  ])('refuses %j, and sets nothing', async (args, told) => {
    const { exitCode, stderr } = await cli('limits', 'set', 'cpus=1', ...args);
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(told);
    expect(await must('limits', 'ls')).toMatch(/^home +cpus +\d+ +-$/m);
  });
});

describe('serve', () => {
  it('serves the same commands over --url, and asks for a key once there is one', async () => {
    await cli('engine', 'stop');
    const { id, key } = JSON.parse(await must('keys', 'create', '--name', 'ci', '--format', 'json'));
    const server = spawnCli(home.path, ['serve', '--port', '0'], {});
    const [line] = await once(server.stdout ?? expect.unreachable(), 'data');
    const url = String(line).trim();
    const far = (args: string[], apiKey: string) =>
      spawnCli('/no/home', [...args, '--url', url], { env: { CRYOBOX_API_KEY: apiKey } });
    const ran = await far(['run', '--rm'], key);
    expect(ran.exitCode).toBe(125);
    const output = await spawnCli('/no/home', ['run', '--rm', '--url', url, 'tiny', 'echo', 'far'], {
      env: { CRYOBOX_API_KEY: key },
    });
    expect([output.exitCode, output.stdout]).toEqual([0, 'far\n']);
    const refused = await far(['ls'], 'cbx_wrong');
    expect([refused.exitCode, refused.stderr]).toEqual([125, expect.stringContaining('API key')]);
    await must('keys', 'rm', id);
    expect((await far(['ls'], key)).exitCode).toBe(125);
    server.kill('SIGINT');
    expect((await server).exitCode).toBe(0);
  });

  it('serves over TLS, and is believed by who knows its certificate', async () => {
    await cli('engine', 'stop');
    const directory = await mkdtemp(join(tmpdir(), 'cryobox-tls-'));
    const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
    const kind = [
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '1',
    ];
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    await execa('openssl', ['req', ...kind, '-keyout', key, '-out', cert, ...names]);
    try {
      // A server asks for keys once there was one, also when there is none any more.
      const { key: apiKey } = JSON.parse(await must('keys', 'create', '--name', 'tls', '--format', 'json'));
      const half = await cli('serve', '--port', '0', '--tls-cert', cert);
      expect([half.exitCode, half.stderr]).toEqual([125, expect.stringContaining('belong together')]);
      const server = spawnCli(home.path, ['serve', '--port', '0', '--tls-cert', cert, '--tls-key', key], {});
      const [line] = await once(server.stdout ?? expect.unreachable(), 'data');
      const url = String(line).trim();
      expect(url).toMatch(/^https:/);
      const far = ['run', '--rm', '--url', url, 'tiny', 'echo', 'far'];
      const known = await spawnCli('/no/home', far, {
        env: { NODE_EXTRA_CA_CERTS: cert, CRYOBOX_API_KEY: apiKey },
      });
      expect([known.exitCode, known.stdout]).toEqual([0, 'far\n']);
      const unknown = await spawnCli('/no/home', far, { env: { CRYOBOX_API_KEY: apiKey } });
      expect([unknown.exitCode, unknown.stderr]).toEqual([125, expect.stringContaining('certificate')]);
      server.kill('SIGINT');
      expect((await server).exitCode).toBe(0);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
