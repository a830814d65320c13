import { randomBytes } from 'node:crypto';
import { mkdir, open as openFile, readdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  allObjects,
  bytesSource,
  fileSource,
  indexOf,
  type ObjectStore,
  objectLimits,
  openObjectStore,
  PresignedStore,
  putDocument,
  readDocument,
  readPiece,
  readVerified,
  S3Store,
} from '../../src/objects/index.js';
import { temporaryDirectory } from '../support/temporary.js';
import { keys, type S3Server, s3Server } from './s3-server.js';

let server: S3Server;
beforeAll(async () => {
  process.env.AWS_ACCESS_KEY_ID = keys.access;
  process.env.AWS_SECRET_ACCESS_KEY = keys.secret;
  server = await s3Server();
}, 600_000);
afterAll(async () => server?.[Symbol.asyncDispose]());

let places = 0;
const stores: Record<string, () => Promise<ObjectStore>> = {
  directory: async () => await openObjectStore(join(await temporaryDirectory(), 'store')),
  s3: async () => {
    server.proxy.lie = () => undefined;
    places += 1;
    return await openObjectStore(`s3://cryobox/place-${places}?endpoint=${server.endpoint}`);
  },
};
const text = (it: string) => bytesSource(Buffer.from(it));
const whole = { length: 2 ** 20, atMost: true };
const lieOnce = (method: string, lie: ReturnType<S3Server['proxy']['lie']>) => {
  let told = false;
  server.proxy.lie = (asked) => {
    if (told || asked.method !== method) return undefined;
    told = true;
    return lie;
  };
};

describe.each(Object.entries(stores))('%s', (_name, open) => {
  it('gives back what was put, replaces it as a whole, and removes it', async () => {
    await using store = await open();
    expect(await store.head('a/b')).toBeUndefined();
    await expect(store.read('a/b', whole)).rejects.toMatchObject({ code: 'not_found' });
    await store.put('a/b', text('one'));
    await store.put('a/b', text('another'));
    expect((await store.read('a/b', whole)).toString()).toBe('another');
    expect((await store.read('a/b', { offset: 2, length: 3 })).toString()).toBe('oth');
    expect(await store.head('a/b')).toMatchObject({ key: 'a/b', sizeBytes: 7 });
    expect(Math.abs(Date.now() - ((await store.head('a/b'))?.modifiedAt.getTime() ?? 0))).toBeLessThan(
      120_000,
    );
    await store.remove(['a/b', 'a/never']);
    expect(await store.head('a/b')).toBeUndefined();
  });

  it('knows objects without bytes, and says when one ends early', async () => {
    await using store = await open();
    await store.put('empty', text(''));
    await store.put('short', text('12345'));
    expect(await store.read('empty', whole)).toHaveLength(0);
    await expect(store.read('empty', { length: 1 })).rejects.toMatchObject({ code: 'integrity' });
    await expect(store.read('short', { offset: 3, length: 3 })).rejects.toMatchObject({ code: 'integrity' });
    await expect(store.read('short', { offset: 5, length: 1 })).rejects.toMatchObject({ code: 'integrity' });
  });

  it('lets one of many have a key that nobody had', async () => {
    await using store = await open();
    const names = Array.from({ length: 16 }, (_, index) => `writer ${index}`);
    const ends = await Promise.allSettled(
      names.map((name) => store.put('only', text(name), { ifAbsent: true })),
    );
    const won = ends.flatMap(({ status }, index) => (status === 'fulfilled' ? [names[index]] : []));
    expect(won).toEqual([(await store.read('only', whole)).toString()]);
    for (const end of ends) {
      if (end.status === 'rejected') expect(end.reason).toMatchObject({ code: 'already_exists' });
    }
  });

  it('lists pages in the order of the bytes of keys, and from any place', async () => {
    await using store = await open();
    const all = ['a-b', 'a/b', 'a/c/d', 'a/c/e', 'a0', 'b/1', 'b/2', 'b/3'];
    for (const key of [...all].reverse()) await store.put(key, text(key));
    const listed = async (prefix: string, limit: number) => {
      const pages: string[][] = [];
      let after: string | undefined;
      do {
        const page = await store.list(prefix, { limit, ...(after === undefined ? {} : { after }) });
        pages.push(page.objects.map(({ key }) => key));
        after = page.next;
      } while (after !== undefined);
      return pages;
    };
    expect((await listed('', 3)).flat()).toEqual(all);
    expect(await listed('b/', 2)).toEqual([['b/1', 'b/2'], ['b/3']]);
    expect((await listed('a', 100)).flat()).toEqual(['a-b', 'a/b', 'a/c/d', 'a/c/e', 'a0']);
    expect((await listed('a/c/', 1)).flat()).toEqual(['a/c/d', 'a/c/e']);
    expect((await store.list('', { after: 'a/c' })).objects[0]?.key).toBe('a/c/d');
    expect(await listed('none', 5)).toEqual([[]]);
  });

  it('puts files, and says when one became shorter meanwhile', async () => {
    await using store = await open();
    const path = join(await temporaryDirectory(), 'file');
    await writeFile(path, 'of a file');
    await using file = await openFile(path);
    await store.put('file', fileSource(file, 9));
    expect((await store.read('file', whole)).toString()).toBe('of a file');
    await expect(store.put('longer', fileSource(file, 10))).rejects.toMatchObject({ code: 'storage_error' });
    expect(await store.head('longer')).toBeUndefined();
  });

  it('refuses keys that mean different things in different stores', async () => {
    await using store = await open();
    for (const key of ['', '/a', 'a/', 'a//b', '../a', 'a/../b', '.hidden', 'a b', 'ä', 'a'.repeat(600)]) {
      await expect(store.put(key, text('x')), key).rejects.toMatchObject({ code: 'invalid_argument' });
    }
  });

  it('puts large objects in parts, and reads verified ranges over the ends of pieces', async () => {
    await using store = await open();
    const bytes = randomBytes(2 ** 20 * 33 + 17);
    const index = await indexOf(bytesSource(bytes));
    await store.put('large', bytesSource(bytes));
    expect(index.pieces).toHaveLength(34);
    expect((await store.head('large'))?.sizeBytes).toBe(bytes.length);
    const range = { offset: 2 ** 20 * 16 - 5, length: 2 ** 20 + 10 };
    const got = await readVerified(store, 'large', index, range);
    expect(got.equals(bytes.subarray(range.offset, range.offset + range.length))).toBe(true);
    expect((await readPiece(store, 'large', index, 33)).equals(bytes.subarray(33 * 2 ** 20))).toBe(true);
  });

  it('leaves nothing of what its source failed to give, or was cancelled', async () => {
    await using store = await open();
    const source = {
      sizeBytes: 2 ** 20 * 40,
      read: async (offset: number, length: number) => {
        if (offset >= 2 ** 20 * 32) throw new Error('the source fails');
        return Buffer.alloc(length);
      },
    };
    await expect(store.put('part', source)).rejects.toThrow('the source fails');
    const cancelling = new AbortController();
    const slow = {
      ...source,
      read: async (offset: number, length: number) => {
        if (offset > 0) cancelling.abort();
        return Buffer.alloc(length);
      },
    };
    await expect(store.put('part', slow, { signal: cancelling.signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
    expect(await store.head('part')).toBeUndefined();
    expect(await store.abortUploads({ olderThanMs: -60_000 })).toBe(0);
  });

  it('knows a document whose bytes are not those that were put', async () => {
    await using store = await open();
    const digest = await putDocument(store, 'doc.json', { answer: 42 });
    expect(await readDocument(store, 'doc.json')).toEqual({ value: { answer: 42 }, digest });
    const bytes = await store.read('doc.json', whole);
    bytes[bytes.length - 2] = (bytes[bytes.length - 2] ?? 0) ^ 1;
    await store.put('doc.json', bytesSource(bytes));
    await expect(readDocument(store, 'doc.json')).rejects.toMatchObject({ code: 'integrity' });
    await store.put('doc.json', bytesSource(bytes.subarray(0, 10)));
    await expect(readDocument(store, 'doc.json')).rejects.toMatchObject({ code: 'integrity' });
    const found: string[] = [];
    for await (const { key } of allObjects(store, 'doc')) found.push(key);
    expect(found).toEqual(['doc.json']);
  });
});

describe('a store that fails', () => {
  it('is asked again where that may help, and refused where not', async () => {
    await using store = (await stores.s3?.()) as ObjectStore;
    for (const lie of [{ status: 503 }, { status: 500 }, 'reset', 'lost-answer'] as const) {
      lieOnce('PUT', lie);
      await store.put('again', text('told twice'), { ifAbsent: true });
      expect((await store.read('again', whole)).toString()).toBe('told twice');
      await store.remove(['again']);
    }
    await store.put('big', bytesSource(Buffer.alloc(2 ** 20 * 17, 7)));
    for (const lie of [{ status: 503 }, 'reset', 'cut'] as const) {
      lieOnce('GET', lie);
      const got = await store.read('big', { offset: 5, length: 1_000_000 });
      expect(got.equals(Buffer.alloc(1_000_000, 7))).toBe(true);
    }
    const before = server.proxy.asked.length;
    server.proxy.lie = () => ({ status: 403 });
    await expect(store.read('big', whole)).rejects.toMatchObject({
      code: 'config_error',
      hint: expect.stringContaining('AWS_ACCESS_KEY_ID'),
    });
    expect(server.proxy.asked.length).toBe(before + 1);
  });

  it('is given up after a bounded number of attempts, and does not keep a caller who has left', async () => {
    await using store = (await stores.s3?.()) as ObjectStore;
    await store.put('there', text('it'));
    const before = server.proxy.asked.length;
    server.proxy.lie = () => ({ status: 503 });
    await expect(store.read('there', whole)).rejects.toMatchObject({ code: 'upstream_unavailable' });
    expect(server.proxy.asked.length).toBe(before + objectLimits.attempts);
    server.proxy.lie = () => 'silence';
    const leaving = new AbortController();
    const reading = store.read('there', { ...whole, signal: leaving.signal });
    setTimeout(() => leaving.abort(), 50);
    await expect(reading).rejects.toMatchObject({ code: 'cancelled' });
    server.proxy.lie = () => undefined;
    await server.kill();
    await expect(store.head('there')).rejects.toMatchObject({ code: 'upstream_unavailable' });
    await server.restart();
    expect((await store.read('there', whole)).toString()).toBe('it');
  }, 60_000);

  it('does not get away with other bytes', async () => {
    await using store = (await stores.s3?.()) as ObjectStore;
    const bytes = randomBytes(3 * 2 ** 20);
    const index = await indexOf(bytesSource(bytes));
    await store.put('pieces', bytesSource(bytes));
    lieOnce('GET', 'flip');
    expect((await readPiece(store, 'pieces', index, 1)).equals(bytes.subarray(2 ** 20, 2 ** 21))).toBe(true);
    server.proxy.lie = ({ method }) => (method === 'GET' ? 'flip' : undefined);
    await expect(readPiece(store, 'pieces', index, 1)).rejects.toMatchObject({
      code: 'integrity',
      message: expect.stringContaining('pieces'),
    });
    server.proxy.lie = () => undefined;
    await truncate(join(server.files, `place-${places}`, 'pieces'), 2 ** 20);
    await expect(readPiece(store, 'pieces', index, 2)).rejects.toMatchObject({ code: 'integrity' });
  });

  it('leaves no parts when one of them is refused', async () => {
    await using store = (await stores.s3?.()) as ObjectStore;
    server.proxy.lie = ({ url }) => (url.includes('partNumber=2') ? { status: 403 } : undefined);
    await expect(store.put('parts', bytesSource(Buffer.alloc(2 ** 20 * 40)))).rejects.toMatchObject({
      code: 'config_error',
    });
    expect(await store.abortUploads({ olderThanMs: -60_000 })).toBe(0);
    let completed = 0;
    server.proxy.lie = ({ method, url }) => {
      if (method !== 'POST' || !url.includes('uploadId')) return undefined;
      completed += 1;
      return completed === 1 ? 'lost-answer' : undefined;
    };
    await store.put('parts', bytesSource(Buffer.alloc(2 ** 20 * 20)));
    expect((await store.head('parts'))?.sizeBytes).toBe(2 ** 20 * 20);
  });

  it('says which key, bucket or client it lacks', async () => {
    process.env.AWS_SECRET_ACCESS_KEY = 'wrong';
    onTestFinished(() => {
      process.env.AWS_SECRET_ACCESS_KEY = keys.secret;
    });
    const url = `s3://cryobox?endpoint=${server.endpoint}`;
    await using store = await openObjectStore(url);
    await expect(store.list('')).rejects.toMatchObject({ code: 'config_error' });
    process.env.AWS_SECRET_ACCESS_KEY = keys.secret;
    await using other = await openObjectStore(`s3://nobody?endpoint=${server.endpoint}`);
    await expect(other.put('a', text('b'))).rejects.toMatchObject({
      code: 'config_error',
      message: expect.stringContaining('nobody'),
    });
    for (const wrong of [
      'relative',
      'http://x',
      's3://u:p@bucket',
      's3://bucket?part=1',
      's3://bucket?endpoint=x',
    ])
      await expect(openObjectStore(wrong), wrong).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('that is a full disk says so, and has nothing of the object', async () => {
    const place = await temporaryDirectory();
    const image = join(place, 'image');
    const root = join(place, 'mounted');
    await mkdir(root);
    await writeFile(image, '');
    await truncate(image, 16 * 2 ** 20);
    await execa('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', image]);
    await execa('mount', ['-o', 'loop', image, root]);
    onTestFinished(async () => {
      await execa('umount', [root]);
    });
    await using store = await openObjectStore(root);
    await store.put('small', text('fits'));
    await expect(store.put('large', bytesSource(randomBytes(24 * 2 ** 20)))).rejects.toMatchObject({
      code: 'disk_full',
      hint: expect.stringContaining(root),
    });
    expect(await store.head('large')).toBeUndefined();
    expect((await store.read('small', whole)).toString()).toBe('fits');
    expect(await readdir(join(root, '.partial'))).toEqual([]);
  });
});

it('URLs that are signed beforehand do one thing with one object, for a time', async () => {
  await using store = (await stores.s3?.()) as S3Store;
  expect(store).toBeInstanceOf(S3Store);
  let validMs = 60_000;
  const asked: string[] = [];
  await using signed = new PresignedStore('the store', async (method, key) => {
    asked.push(`${method} ${key}`);
    return await store.sign(method, key, validMs);
  });
  await signed.put('one', text('by URL'));
  expect((await signed.read('one', { offset: 3, length: 3 })).toString()).toBe('URL');
  expect((await store.read('one', whole)).toString()).toBe('by URL');
  await expect(signed.read('two', whole)).rejects.toMatchObject({ code: 'not_found' });
  await expect(signed.read('one', { offset: 4, length: 9 })).rejects.toMatchObject({ code: 'integrity' });
  lieOnce('GET', 'cut');
  expect((await signed.read('one', whole)).toString()).toBe('by URL');
  lieOnce('GET', { status: 403 });
  expect((await signed.read('one', whole)).toString()).toBe('by URL');
  const url = new URL(await store.sign('GET', 'one', 60_000));
  url.pathname = url.pathname.replace('one', 'other');
  await store.put('other', text('secret'));
  expect((await fetch(url)).status).toBe(403);
  expect(asked.filter((it) => it === 'GET one')).toHaveLength(6);
  validMs = 1_000;
  const old = await store.sign('GET', 'one', validMs);
  expect((await fetch(old)).status).toBe(200);
});
