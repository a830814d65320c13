import { mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { SimpleBox } from '@boxlite-ai/boxlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Client, type ClientBox, ClientStage, run } from './client-stage.js';
import { eventually } from './support.js';

describe('the official client', () => {
  let stage: ClientStage;
  let client: Client;
  let host: string;
  let box: ClientBox;

  beforeAll(async () => {
    stage = await ClientStage.open();
    host = stage.host;
    client = stage.connect('acme/team');
    box = await client.create({ image: 'tiny' }, 'main');
  });

  afterAll(() => stage.close());

  const write = (each: ClientBox, text: string) => run(each, 'sh', ['-c', `echo ${text} > /root/state`]);
  const read = async (each: ClientBox) => (await run(each, 'cat', ['/root/state'])).stdout;

  it('takes snapshots, lists, finds, restores and removes them', async () => {
    await write(box, 'one');
    const before = Date.now();
    const first = await box.snapshot.create('one');
    expect(first).toMatchObject({ name: 'one', boxId: box.id });
    expect(first.sizeBytes).toBeGreaterThan(0);
    expect(Math.abs(first.createdAt * 1000 - before)).toBeLessThan(10_000);
    await write(box, 'two');
    await box.snapshot.create('we ird/ü'.replace('/', '-'));
    expect((await box.snapshot.list()).map(({ name }) => name)).toEqual(['we ird-ü', 'one']);
    expect(await box.snapshot.get('one')).toEqual(first);
    expect(await box.snapshot.get('none')).toBeNull();
    await expect(box.snapshot.create('one')).rejects.toThrow(/^already exists: /);
    for (const name of ['', '.', '.x', 'a/b', 'x'.repeat(256)]) {
      await expect(box.snapshot.create(name)).rejects.toThrow(/^invalid argument: /);
    }
    await expect(box.snapshot.restore('one')).rejects.toThrow(/^invalid state: .*[Ss]top the box first/);
    await box.stop();
    await box.snapshot.restore('one');
    await box.start();
    expect(await read(box)).toBe('one\n');
    await box.snapshot.remove('one');
    await box.snapshot.remove('we ird-ü');
    await expect(box.snapshot.remove('one')).rejects.toThrow(/^box not found: /);
    expect(await box.snapshot.list()).toEqual([]);
  });

  it('clones boxes, which outlive what they came from', async () => {
    const source = await client.create({ image: 'tiny' }, 'source');
    await write(source, 'cloned');
    const clone = await source.cloneBox({}, 'clone');
    expect(clone.name).toBe('clone');
    expect((await clone.info()).state.status).toBe('stopped');
    const unnamed = await source.cloneBox();
    expect(unnamed.id).not.toBe(clone.id);
    await expect(source.cloneBox(null, 'clone')).rejects.toThrow(/^already exists: /);
    await client.remove('source', true);
    expect([await read(clone), await read(unnamed)]).toEqual(['cloned\n', 'cloned\n']);
    await client.remove('clone', true);
    await client.remove(unnamed.id, true);
  });

  it('exports and imports', async () => {
    await write(box, 'exported');
    const file = join(host, 'file.boxlite');
    expect(await box.export(file)).toBe(file);
    await mkdir(join(host, 'archives'));
    const inDirectory = await box.export(join(host, 'archives'));
    expect((await stat(inDirectory)).size).toBeGreaterThan(1000);
    const imported = await client.importBox(file, 'imported');
    expect((await imported.info()).state.status).toBe('stopped');
    expect(await read(imported)).toBe('exported\n');
    await expect(client.importBox(file, 'imported')).rejects.toThrow(/^already exists: /);
    await client.remove('imported', true);
    const unnamed = await client.importBox(inDirectory);
    await client.remove(unnamed.id, true);
    await truncate(file, 50_000);
    await expect(client.importBox(file)).rejects.toThrow(/^(invalid argument|storage error|images error): /);
    await writeFile(file, 'garbage');
    await expect(client.importBox(file)).rejects.toThrow(/^(invalid argument|storage error|images error): /);
    expect((await client.listInfo()).map(({ name }) => name)).toEqual(['main']);
  });

  it('reads the metrics of a box', async () => {
    await run(box, 'true');
    const metrics = await box.metrics();
    expect(metrics.memoryBytes).toBeGreaterThan(0);
    expect(metrics.totalCreateDurationMs).toBeGreaterThan(0);
    expect(metrics.bytesReceivedTotal).toBeGreaterThanOrEqual(0);
    const before = (await client.metrics()).totalExecErrors;
    await expect(box.exec('no-such-command')).rejects.toThrow();
    expect((await client.metrics()).totalExecErrors).toBe(before + 1);
  });

  it('forwards a local port to one of the box', async () => {
    await box.exec('sh', ['-c', 'while true; do nc -l -p 7100 -e echo hello; done']);
    const ready = 'until grep -q ":1BBC .* 0A" /proc/net/tcp /proc/net/tcp6; do usleep 20000; done';
    await run(box, 'sh', ['-c', ready]);
    const tunnel = await box.network.tunnel(7100);
    expect(tunnel.uri()).toMatch(/^http:\/\//);
    const forwarder = await tunnel.forward({ type: 'tcp', host: '127.0.0.1', port: 0 });
    const address = forwarder.localAddr();
    if (address.type !== 'tcp') throw new Error('no TCP address');
    expect(address.port).toBeGreaterThan(0);
    await forwarder.close();
    await expect(box.network.tunnel(0)).rejects.toThrow();
    await expect(box.network.tunnel(7199).then((unused) => unused.connect())).rejects.toThrow();
  });

  it('runs as a user, in a directory, and says what it was refused', async () => {
    const { stdout } = await run(box, 'sh', ['-c', 'id -u; pwd'], [], false, 'user', 5, '/tmp');
    expect(stdout).toMatch(/^(1000|0)\n\/tmp\n$/);
    await box.stop();
    expect((await run(box, 'echo', ['woken'])).stdout).toBe('woken\n');
  });

  it('streams a megabyte into a command, and from it while it runs', async () => {
    const execution = await box.exec('sh', ['-c', 'sha256sum']);
    const stdin = await execution.stdin();
    const line = `${'x'.repeat(1023)}\n`;
    for (let i = 0; i < 64; i += 1) await stdin.writeString(line.repeat(16));
    await stdin.close();
    const stdout = await execution.stdout();
    const { createHash } = await import('node:crypto');
    const expected = createHash('sha256').update(line.repeat(1024)).digest('hex');
    expect(await stdout.next()).toBe(`${expected}  -\n`);
    expect((await execution.wait()).exitCode).toBe(0);
  });

  it('copies trees with modes, and refuses what is not there', async () => {
    await mkdir(join(host, 'modes'), { recursive: true });
    await writeFile(join(host, 'modes', 'tool'), '#!/bin/sh\necho tool\n', { mode: 0o755 });
    await writeFile(join(host, 'modes', 'large'), Buffer.alloc(3_000_000, 7));
    await box.copyIn(join(host, 'modes'), '/root/modes');
    expect((await run(box, '/root/modes/tool')).stdout).toBe('tool\n');
    await box.copyOut('/root/modes', join(host, 'modes-back'));
    expect(
      (await readFile(join(host, 'modes-back', 'modes', 'large'))).equals(Buffer.alloc(3_000_000, 7)),
    ).toBe(true);
    expect((await stat(join(host, 'modes-back', 'modes', 'tool'))).mode & 0o777).toBe(0o755);
    await expect(box.copyOut('relative', join(host, 'x'))).rejects.toThrow(/^invalid argument: /);
  });

  it('has higher classes that work too', async () => {
    const options = { image: 'tiny', name: 'simple', runtime: client, reuseExisting: true };
    const simple = new SimpleBox(options);
    const result = await simple.exec('sh', ['-c', 'echo out $A; echo err >&2; exit 3'], { A: 'b' });
    expect(result).toMatchObject({ exitCode: 3, stdout: 'out b\n', stderr: 'err\n' });
    expect(simple.created).toBe(true);
    const again = new SimpleBox(options);
    expect((await again.exec('echo', 'x')).stdout).toBe('x\n');
    expect(again.created).toBe(false);
    await again.stop();
    await client.remove('simple', true);
  });

  it('says that a server that is gone is a network error, and goes on when it is back', async () => {
    const gone = createServer();
    await new Promise<void>((resolve) => gone.listen(0, '127.0.0.1', resolve));
    const address = gone.address();
    await new Promise((resolve) => gone.close(resolve));
    const { BoxliteRestOptions, JsBoxlite } = await import('@boxlite-ai/boxlite');
    if (!address || typeof address === 'string') throw new Error('no port');
    const lost = JsBoxlite.rest(new BoxliteRestOptions({ url: `http://127.0.0.1:${address.port}` }));
    await expect(lost.listInfo()).rejects.toThrow(/error: /);
    await eventually(() => client.listInfo());
    await client.shutdown();
  });
});
