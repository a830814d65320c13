import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { npmClient } from '../support/boxlite-npm-client.js';
import versions from '../support/boxlite-versions.json' with { type: 'json' };
import { installMs } from '../support/installed.js';
import { type Client, type ClientBox, ClientStage, readAll, run } from './client-stage.js';
import { eventually } from './support.js';

/** The unmodified npm client of BoxLite against our server (v1 contract). */
describe.each(versions.native)('the official client, native part %s', (native) => {
  let stage: ClientStage;
  let client: Client;
  let stranger: Client;
  let host: string;
  let box: ClientBox;

  beforeAll(async () => {
    stage = await ClientStage.open(await npmClient(versions.npm, native));
    host = stage.host;
    client = stage.connect('acme/team');
    stranger = stage.connect('other');
    box = await client.create({ image: 'tiny' }, 'main');
  }, installMs);

  afterAll(() => stage.close());

  it('makes, finds, lists, stops, starts and removes boxes', async () => {
    const info = await box.info();
    expect(info).toMatchObject({ name: 'main', cpus: 1, memoryMib: 512, autoResume: true });
    expect(info.state).toMatchObject({ status: 'running', running: true });
    expect(info.image).toBe('tiny');
    expect(info.id).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
    expect(await client.get('missing')).toBeNull();
    expect(await client.getInfo('missing')).toBeNull();
    expect((await client.getOrCreate({ image: 'tiny' }, 'main')).created).toBe(false);
    const second = await client.getOrCreate({ image: 'tiny' }, 'second');
    expect(second.created).toBe(true);
    expect((await client.listInfo()).map(({ name }) => name)).toEqual(['second', 'main']);
    await second.box.stop();
    expect((await second.box.info()).state.status).toBe('stopped');
    await second.box.start();
    expect((await second.box.info()).state.status).toBe('running');
    await expect(client.remove('second')).rejects.toThrow(/^invalid state: /);
    await client.remove('second', true);
    expect(await client.get('second')).toBeNull();
    await expect(client.remove('second')).rejects.toThrow(/^box not found: /);
  });

  it('takes every option, and is told by name which are not supported', async () => {
    const full = await client.create(
      {
        image: 'tiny',
        cpus: 1,
        memoryMib: 512,
        workingDir: '/tmp',
        env: [{ key: 'A', value: '1' }],
        entrypoint: ['sh'],
        cmd: ['-c', 'true'],
        user: '1000:1000',
        autoStop: 60,
        autoDelete: 120,
        autoResume: true,
      },
      'full',
    );
    expect(await full.info()).toMatchObject({ memoryMib: 512, autoStop: 60, autoDelete: 120 });
    expect((await run(full, 'sh', ['-c', 'echo $A $PWD $(id -u)'])).stdout).toBe('1 /tmp 1000\n');
    await client.remove('full', true);
    const refused = (options: object, message: RegExp) =>
      expect(client.create({ image: 'tiny', ...options }, 'never')).rejects.toThrow(message);
    const secrets = [{ name: 'k', value: 'v', hosts: ['a.com'] }];
    const keyed = await client.create({ image: 'tiny', secrets }, 'keyed');
    const { stdout } = await run(keyed, 'sh', ['-c', 'echo $BOXLITE_SECRET_K']);
    expect(stdout).toBe('<BOXLITE_SECRET:k>\n');
    await client.remove('keyed', true);
    const outbound = (...allowNet: string[]) => ({
      network: { outbound: { mode: 'enabled' as const, allowNet } },
    });
    await refused(outbound('no name'), /^invalid argument: .*allow_?net/i);
    const listed = await client.create({ image: 'tiny', ...outbound('a.com') }, 'listed');
    expect((await run(listed, 'echo', ['up'])).stdout).toBe('up\n');
    await client.remove('listed', true);
    await refused({ cpus: 99 }, /^invalid argument: .*cpus/);
    await refused({ memoryMib: 1 }, /^invalid argument: .*memory_mib/);
    await expect(client.create({ image: 'tiny' }, 'a/b')).rejects.toThrow(/^invalid argument: /);
    await expect(client.create({ image: 'tiny' }, 'main')).rejects.toThrow(/^already exists: /);
    await expect(client.create({ image: 'localhost:1/missing:1' }, 'x')).rejects.toThrow(/^network error: /);
  });

  it('shows nothing of a tenant to another, or to who has no key', async () => {
    expect(await stranger.get('main')).toBeNull();
    expect(await stranger.listInfo()).toEqual([]);
    await expect(stranger.remove(box.id, true)).rejects.toThrow(/^box not found: /);
    const wrong = stage.connect('other', 'acme/team');
    await expect(wrong.listInfo()).rejects.toThrow(/^configuration error: auth: /);
    const keyless = stage.keyless();
    await expect(keyless.listInfo()).rejects.toThrow(
      /^configuration error: auth: invalid or missing API key/,
    );
  });

  it('runs commands with streams, environment and exit codes', async () => {
    const result = await run(box, 'sh', ['-c', 'echo out $K; echo err >&2; exit 4'], [['K', 'V']]);
    expect(result).toEqual({ stdout: 'out V\n', stderr: 'err\n', exitCode: 4 });
    expect((await run(box, 'pwd', [], null, false, null, null, '/tmp')).stdout).toBe('/tmp\n');
    await expect(box.exec('no-such-command')).rejects.toThrow(
      /^Execution error: command not found: "no-such/,
    );
    await expect(box.exec('true', [], null, false, null, null, '/no/such')).rejects.toThrow(
      /^Execution error: /,
    );
  });

  it('gets a megabyte of characters without one lost or cut', async () => {
    const script = 'yes é€😀0123456789 | head -n 60000';
    const { stdout, exitCode } = await run(box, 'sh', ['-c', script]);
    expect(exitCode).toBe(0);
    const expected = 'é€😀0123456789\n'.repeat(60_000);
    expect(stdout === expected).toBe(true);
  });

  it('writes to stdin and closes it', async () => {
    const execution = await box.exec('cat');
    const stdin = await execution.stdin();
    await stdin.writeString('hello ');
    await stdin.write(Buffer.from('wörld'));
    await stdin.close();
    expect(await readAll(await execution.stdout())).toBe('hello wörld');
    expect((await execution.wait()).exitCode).toBe(0);
  });

  it('has terminals, signals, kills and time limits', async () => {
    const terminal = await box.exec('sh', ['-c', 'read x; stty size'], null, true);
    await terminal.resizeTty(40, 120);
    await (await terminal.stdin()).writeString('go\n');
    expect(await readAll(await terminal.stdout())).toContain('40 120');
    const signalled = await box.exec('sleep', ['60']);
    await signalled.signal(2);
    expect((await signalled.wait()).exitCode).toBe(-2);
    const killed = await box.exec('sleep', ['60']);
    await killed.kill();
    expect((await killed.wait()).exitCode).toBe(-9);
    expect((await run(box, 'sleep', ['60'], null, false, null, 0.3)).exitCode).toBe(-9);
    const running = await box.exec('sleep', ['60']);
    await expect(running.signal(9)).rejects.toThrow(/^invalid argument: .*should be one of/);
    await expect(running.resizeTty(1, 1)).rejects.toThrow(/^invalid state: /);
    await running.kill();
  });

  it('runs 50 commands at once', async () => {
    const results = await Promise.all(Array.from({ length: 50 }, (_, i) => run(box, 'echo', [String(i)])));
    expect(results).toEqual(
      Array.from({ length: 50 }, (_, i) => ({ stdout: `${i}\n`, stderr: '', exitCode: 0 })),
    );
  });

  it('copies files and trees both ways', async () => {
    await mkdir(join(host, 'tree', 'sub'), { recursive: true });
    await writeFile(join(host, 'in.txt'), 'content');
    await writeFile(join(host, 'tree', 'sub', 'b.txt'), 'b');
    await box.copyIn(join(host, 'in.txt'), '/root/a.txt');
    await box.copyIn(join(host, 'tree'), '/root/tree');
    // Newer native parts send a tree with its name.
    const tree = native === versions.native[0] ? '/root/tree' : '/root/tree/tree';
    expect((await run(box, 'cat', ['/root/a.txt', `${tree}/sub/b.txt`])).stdout).toBe('contentb');
    await box.copyOut('/root/a.txt', join(host, 'out.txt'));
    await mkdir(join(host, 'whole'), { recursive: true });
    await box.copyOut(tree, join(host, 'whole'));
    expect(await readFile(join(host, 'whole', 'tree', 'sub', 'b.txt'), 'utf8')).toBe('b');
    await box.copyOut(`${tree}/.`, join(host, 'out'));
    expect(await readFile(join(host, 'out.txt'), 'utf8')).toBe('content');
    expect(await readFile(join(host, 'out', 'sub', 'b.txt'), 'utf8')).toBe('b');
    await expect(box.copyOut('/no/such', join(host, 'x'))).rejects.toThrow(/^box not found: /);
  });

  it('makes volumes, mounts them and keeps them apart from other tenants', async () => {
    const made = await client.volumes.create('data');
    expect(made).toMatchObject({ name: 'data', sizeBytes: 10 * 1024 ** 3 });
    const unnamed = await client.volumes.create();
    expect(unnamed.name).toBe(unnamed.id);
    expect((await client.volumes.list()).map(({ id }) => id)).toEqual([made.id, unnamed.id]);
    expect(await client.volumes.get(made.id)).toMatchObject({ name: 'data' });
    expect(await stranger.volumes.list()).toEqual([]);
    await expect(stranger.volumes.get(made.id)).rejects.toThrow(/^box not found: /);
    await expect(client.volumes.create('data')).rejects.toThrow(/^already exists: /);
    for (const managedVolume of ['data', made.id]) {
      const options = { image: 'tiny', volumes: [{ managedVolume, guestPath: '/data' }] };
      const each = await client.create(options, 'with-volume');
      const { stdout } = await run(each, 'sh', ['-c', 'cat /data/log 2>&-; echo line >> /data/log']);
      expect(stdout).toBe(managedVolume === 'data' ? '' : 'line\n');
      await expect(client.create(options, 'second')).rejects.toThrow(/in use by box with-volume/);
      await expect(client.volumes.remove(made.id)).rejects.toThrow(/^invalid state: /);
      await client.remove('with-volume', true);
    }
    await client.volumes.remove(made.id);
    await client.volumes.remove(made.id, true);
    await client.volumes.remove(unnamed.id);
    await expect(client.volumes.remove(made.id)).rejects.toThrow(/^box not found: /);
  });

  it('reads metrics', async () => {
    expect((await box.metrics()).commandsExecutedTotal).toBeGreaterThan(0);
    const all = await client.metrics();
    expect(all.boxesCreatedTotal).toBeGreaterThan(0);
    expect(all.numRunningBoxes).toBe((await client.listInfo()).filter(({ state }) => state.running).length);
  });

  it('reaches a port of the box', async () => {
    const listening = await box.exec('nc', [
      '-l',
      '-p',
      '7001',
      '-e',
      'sh',
      '-c',
      'read line; echo "got $line"',
    ]);
    const connection = await eventually(async () => (await box.network.tunnel(7001)).connect());
    await connection.write(Buffer.from('hello\n'));
    expect((await connection.read(100)).toString()).toBe('got hello\n');
    await connection.close();
    await listening.kill().catch(() => undefined);
  });
});
