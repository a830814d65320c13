/** Blobs by digest: one writer at a time, and nothing believed that does not have its digest. */
import { EventEmitter, once } from 'node:events';
import { readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseReference } from '../../src/formats/oci/reference.js';
import { BlobStore } from '../../src/image/store.js';
import { Puller } from '../../src/registry/puller.js';
import { TestHome } from './support/home.js';
import { digest, writeLayout } from './support/layout.js';
import { TestProxy } from './support/proxy.js';
import { TestRegistry } from './support/registry.js';

const bytes = Buffer.alloc(1024 * 1024, 'a blob of a layer, ');
const id = digest(bytes);
const half = bytes.length / 2;

/** A source that stops in the middle until it is told to go on or to fail. */
function haltingSource() {
  const told = new EventEmitter();
  const halted = once(told, 'halted');
  const next = once(told, 'goOn');
  next.catch(() => undefined);
  async function* read(offset: number): AsyncGenerator<Buffer> {
    yield bytes.subarray(offset, half);
    told.emit('halted');
    await next;
    yield bytes.subarray(half);
  }
  return {
    open: (offset: number) => Promise.resolve(read(offset)),
    halted,
    goOn: () => told.emit('goOn'),
    fail: (error: Error) => told.emit('error', error),
  };
}

async function* whole(offset: number): AsyncGenerator<Buffer> {
  yield await Promise.resolve(bytes.subarray(offset));
}
const openWhole = (offset: number) => Promise.resolve(whole(offset));

const parts = async (home: TestHome) =>
  (await home.names()).filter((name) => name.startsWith('store/partial/'));

for (const resumable of [true, false]) {
  for (const other of ['the same store', 'another store'] as const) {
    test(`of two writers (${resumable ? 'a download' : 'an import'} first, ${other}), one is aborted in the middle`, async () => {
      await using home = await TestHome.create();
      const second = other === 'another store' ? new BlobStore(join(home.directory, 'store')) : home.store;
      const source = haltingSource();
      const aborted = home.store.put(id, { sizeBytes: bytes.length, resumable, open: source.open });
      await source.halted;
      const opened: number[] = [];
      const stored = second.put(id, {
        sizeBytes: bytes.length,
        resumable: !resumable,
        open: (offset) => {
          opened.push(offset);
          return openWhole(offset);
        },
      });
      source.fail(new Error('the caller went away'));
      await expect(aborted).rejects.toThrow('the caller went away');
      expect(await stored).toEqual({ digest: id, sizeBytes: bytes.length });
      expect(opened).toEqual([0]);
      expect(digest(await readFile(home.store.path(id)))).toBe(id);
      expect(await parts(home)).toEqual([]);
    });
  }
}

test('ten writers of one blob at once all have it, and it is read once', async () => {
  await using home = await TestHome.create();
  let opened = 0;
  const open = (offset: number) => {
    opened += 1;
    return openWhole(offset);
  };
  const puts = Array.from({ length: 10 }, (_, index) =>
    home.store.put(id, { sizeBytes: bytes.length, resumable: index % 2 === 0, open }),
  );
  for (const stored of await Promise.all(puts)) expect(stored.sizeBytes).toBe(bytes.length);
  expect(opened).toBe(1);
  const unknown = Array.from({ length: 4 }, () => home.store.putUnknown({ open: openWhole }));
  for (const stored of await Promise.all(unknown)) expect(stored.digest).toBe(id);
});

test('who waits for another writer can give up at once', async () => {
  await using home = await TestHome.create();
  const source = haltingSource();
  const first = home.store.put(id, { sizeBytes: bytes.length, open: source.open });
  await source.halted;
  const controller = new AbortController();
  const waiting = home.store.put(id, { open: openWhole, signal: controller.signal });
  controller.abort();
  await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
  source.goOn();
  expect(await first).toEqual({ digest: id, sizeBytes: bytes.length });
  expect(digest(await readFile(home.store.path(id)))).toBe(id);
});

test('a part that another process writes is left to it; what a dead one left is gone on with', async () => {
  await using home = await TestHome.create();
  await home.store.putBytes(Buffer.from('makes the folders'));
  const hex = id.slice('sha256:'.length);
  const partOf = (pid: number) => join(home.directory, 'store/partial', `${hex}.${pid}-0123abcd`);
  await writeFile(partOf(1), bytes.subarray(0, 1000));
  await writeFile(partOf(2 ** 30), bytes.subarray(0, 2000));
  await writeFile(partOf(process.pid), bytes.subarray(0, 2000));
  const opened: number[] = [];
  await home.store.put(id, {
    resumable: true,
    open: (offset) => {
      opened.push(offset);
      return openWhole(offset);
    },
  });
  expect(opened).toEqual([2000]);
  expect(digest(await readFile(home.store.path(id)))).toBe(id);
  expect(await parts(home)).toEqual([`store/partial/${hex}.1-0123abcd`]);
});

test('a damaged blob of the right length is written again, also with its old time', async () => {
  await using home = await TestHome.create();
  await home.store.put(id, { open: openWhole });
  const time = new Date('2020-01-01');
  for (const damaged of ['a running process', 'a later process'] as const) {
    await writeFile(home.store.path(id), Buffer.alloc(bytes.length));
    await utimes(home.store.path(id), time, time);
    const store = damaged === 'a later process' ? new BlobStore(join(home.directory, 'store')) : home.store;
    expect(await store.verifiedSize(id), damaged).toBeUndefined();
    await store.put(id, { open: openWhole });
    expect(digest(await readFile(store.path(id))), damaged).toBe(id);
  }
});

test('a damaged blob is pulled and imported again, and an undamaged one is not', async () => {
  await using home = await TestHome.create();
  await using registry = await TestRegistry.start({ directory: join(home.directory, 'registry') });
  await using proxy = await TestProxy.start(registry.port);
  const layout = await writeLayout(join(home.directory, 'layout'), [
    { layers: [[{ name: 'a', content: 'first' }], [{ name: 'b', content: 'second' }]], name: 'app' },
  ]);
  await registry.push(`oci:${layout}:app`, 'team/app:1');
  const puller = new Puller({ store: home.store, credentials: () => Promise.resolve(undefined) });
  try {
    const reference = parseReference(`${proxy.name}/team/app:1`);
    const image = await puller.pull(reference);
    const ids = [...image.layers.map((layer) => layer.digest), image.configDigest, image.manifestDigest];
    for (const damaged of ids) {
      const path = home.store.path(damaged);
      const good = await readFile(path);
      await writeFile(path, Buffer.alloc(good.length, 'x'));
      const before = proxy.blobCounts();
      expect(await puller.pull(reference)).toEqual(image);
      expect(await readFile(path)).toEqual(good);
      const after = proxy.blobCounts();
      for (const each of ids) {
        const isAgain = each === damaged && damaged !== image.manifestDigest;
        expect((after[each] ?? 0) - (before[each] ?? 0), each).toBe(isAgain ? 1 : 0);
      }
    }
    const imported = await home.import({ layers: [[{ name: 'c', content: 'third' }]] });
    const path = home.store.path(imported.layers[0]?.digest ?? '');
    const good = await readFile(path);
    await writeFile(path, Buffer.alloc(good.length, 'x'));
    await home.import({ layers: [[{ name: 'c', content: 'third' }]] });
    expect(await readFile(path)).toEqual(good);
  } finally {
    await puller.close();
  }
});
