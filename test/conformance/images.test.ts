import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ImageRecipe, Progress, RuntimeEvent } from '../../src/api/index.js';
import { TestRegistry } from '../image/support/registry.js';
import { writeTinyImage } from '../support/tiny-image.js';
import { conformance } from './support.js';

let host = '';
let registry: TestRegistry;
beforeAll(async () => {
  host = await mkdtemp(join(tmpdir(), 'cryobox-images-'));
  registry = await TestRegistry.start({ directory: join(host, 'registry') });
  const layout = await writeTinyImage(join(host, 'pulled'), { files: { 'etc/from': 'registry' } });
  await registry.push(`oci:${layout}`, 'team/app:1');
});
afterAll(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(host, { recursive: true, force: true });
});

conformance('images', (subject) => {
  it('come from a registry with progress, and boxes are made of them', async () => {
    const { runtime } = subject;
    const reference = `${registry.name}/team/app:1`;
    const progress: Progress[] = [];
    const pulled = await runtime.images.pull(reference, { onProgress: (each) => progress.push(each) });
    expect(pulled).toMatchObject({ reference, layerCount: 1 });
    expect(progress.length).toBeGreaterThan(0);
    expect((await runtime.images.pull(reference)).configDigest).toBe(pulled.configDigest);
    const image = await runtime.images.get(reference);
    expect(image).toMatchObject({ reference, tag: '1', id: pulled.configDigest, layerCount: 1 });
    expect(image?.cachedAt).toBeInstanceOf(Date);
    expect((await runtime.images.get(pulled.configDigest))?.reference).toBe(reference);
    const box = await runtime.create({ image: reference, detach: true });
    expect((await box.files.read('/etc/from')).toString()).toBe('registry');
    await expect(runtime.images.remove(reference)).rejects.toMatchObject({ code: 'invalid_state' });
    await box.remove({ force: true });
    await runtime.images.remove(reference);
    expect(await runtime.images.get(reference)).toBeNull();
    await expect(runtime.images.remove(reference)).rejects.toMatchObject({ code: 'image_not_found' });
  });

  it('that cannot be had say why', async () => {
    const { runtime } = subject;
    const missing = runtime.images.pull(`${registry.name}/team/none:1`);
    await expect(missing).rejects.toMatchObject({ code: 'image_not_found' });
    await expect(runtime.images.pull('localhost:1/x:1')).rejects.toMatchObject({
      code: 'network_unavailable',
    });
    await expect(runtime.images.pull('not a reference')).rejects.toMatchObject({ code: 'invalid_argument' });
    const never = runtime.images.pull('not-here', { pullPolicy: 'never' });
    await expect(never).rejects.toMatchObject({ code: 'image_not_found' });
    const release = runtime.images.build('contents', {});
    await expect(release).rejects.toMatchObject({ code: 'invalid_argument' });
    const recipe = runtime.images.build('contents', { recipe: 'pyhton' as ImageRecipe });
    await expect(recipe).rejects.toMatchObject({ code: 'invalid_argument' });
    const cancelled = runtime.images.pull(`${registry.name}/team/app:1`, { signal: AbortSignal.abort() });
    await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' });
  });

  it('come from a directory of the host, are listed, tell of it, and go when no box uses them', async () => {
    const { box, runtime } = subject;
    const stop = new AbortController();
    const seen: RuntimeEvent[] = [];
    const removed = (async () => {
      for await (const event of runtime.events({ signal: stop.signal })) {
        if (event.kind === 'image') seen.push(event);
        if (event.kind === 'image' && event.change === 'removed') return;
      }
    })();
    const layout = join(host, `layout-${box.id}`);
    await writeTinyImage(layout, { files: { 'etc/box': box.id } });
    const made = await runtime.images.import(layout, { reference: 'imported' });
    expect(made.reference).toBe('docker.io/library/imported:latest');
    expect((await runtime.images.list()).map(({ reference }) => reference)).toContain(made.reference);
    const pruned = await runtime.images.prune();
    expect(pruned).toContain(made.reference);
    expect(pruned).not.toContain('docker.io/library/tiny:latest');
    await removed;
    stop.abort();
    const ours = seen.filter(({ id }) => id === made.reference).map(({ change }) => change);
    expect(ours).toContain('arrived');
  });
});

conformance('housekeeping', (subject) => {
  it('finds nothing wrong, and nothing left over the second time', async () => {
    const { runtime } = subject;
    const progress: Progress[] = [];
    const { ok, problems, checkedLayers } = await runtime.verify({
      onProgress: (each) => progress.push(each),
    });
    expect([ok, problems]).toEqual([true, []]);
    expect(checkedLayers).toBeGreaterThan(0);
    const collected = await runtime.gc();
    expect(collected.freedBytes).toBe(collected.removed.reduce((sum, { bytes }) => sum + bytes, 0));
    expect((await runtime.gc({ dryRun: true })).removed).toEqual([]);
  });
});

conformance('ports', (subject) => {
  it('of a box are reached without a network', async () => {
    const { box } = subject;
    const server = await box.startExec(['nc', '-l', '-p', '7000', '-e', 'sh', '-c', 'read x; echo "got $x"']);
    const ready = 'until grep -q ":1B58 .* 0A" /proc/net/tcp /proc/net/tcp6; do usleep 20000; done';
    await box.exec(['sh', '-c', ready], { timeoutMs: 20_000 });
    const connection = await box.dial(7000);
    await connection.input.write(Buffer.from('hello\n'));
    let text = '';
    for await (const chunk of connection.output) text += Buffer.from(chunk).toString();
    expect(text).toBe('got hello\n');
    await connection.close();
    await server.kill();
    await expect(box.dial(7001)).rejects.toMatchObject({ code: 'network_unavailable' });
    await expect(box.dial(7001, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'cancelled',
    });
  });

  it('carry megabytes both ways', async () => {
    const { box } = subject;
    const server = await box.startExec(['nc', '-l', '-p', '7002', '-e', 'cat']);
    const ready = 'until grep -q ":1B5A .* 0A" /proc/net/tcp /proc/net/tcp6; do usleep 20000; done';
    await box.exec(['sh', '-c', ready], { timeoutMs: 20_000 });
    const connection = await box.dial(7002);
    const total = 4 * 1024 * 1024;
    const sending = (async () => {
      for (let at = 0; at < total; at += 65_536) await connection.input.write(Buffer.alloc(65_536, at >> 16));
      await connection.input.end();
    })();
    const received: Buffer[] = [];
    for await (const chunk of connection.output) received.push(Buffer.from(chunk));
    await sending;
    const bytes = Buffer.concat(received);
    expect(bytes.length).toBe(total);
    for (let at = 0; at < total; at += 65_536) expect(bytes[at]).toBe((at >> 16) % 256);
    await connection.close();
    await server.kill();
  });
});
