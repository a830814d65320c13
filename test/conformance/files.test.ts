import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Progress } from '../../src/api/index.js';
import { conformance } from './support.js';

conformance('files', (subject) => {
  let host = '';
  beforeAll(async () => {
    host = await mkdtemp(join(tmpdir(), 'cryobox-files-'));
    await mkdir(join(host, 'tree', 'sub'), { recursive: true });
    await writeFile(join(host, 'tree', 'sub', 'b.bin'), Buffer.alloc(300_000, 7));
    await writeFile(join(host, 'tree', 'a.sh'), '#!/bin/sh\n');
    await chmod(join(host, 'tree', 'a.sh'), 0o750);
    await symlink('sub/b.bin', join(host, 'tree', 'link'));
  });
  afterAll(() => rm(host, { recursive: true, force: true }));

  it('go in and out as trees, with modes and links', async () => {
    const { files } = subject.box;
    const progress: Progress[] = [];
    const copied = await files.copyIn(join(host, 'tree'), '/root/tree', {
      onProgress: (p) => progress.push(p),
    });
    expect(copied).toEqual({ entries: 5, bytes: 300_010 });
    expect(progress.at(-1)?.doneBytes).toBeGreaterThanOrEqual(300_010);
    const listed = (await files.list('/root/tree')).map(({ path, type }) => [path, type]).sort();
    expect(listed).toEqual([
      ['/root/tree/a.sh', 'file'],
      ['/root/tree/link', 'symlink'],
      ['/root/tree/sub', 'directory'],
    ]);
    expect(await files.stat('/root/tree/a.sh')).toMatchObject({ mode: 0o750, sizeBytes: 10, type: 'file' });
    expect((await files.stat('/root/tree/link'))?.linkTarget).toBe('sub/b.bin');

    const back = await files.copyOut('/root/tree', join(host, `back-${subject.box.id}`));
    expect(back.bytes).toBe(300_010);
    const copy = join(host, `back-${subject.box.id}`);
    expect((await readdir(copy)).sort()).toEqual(['a.sh', 'link', 'sub']);
    expect(await readlink(join(copy, 'link'))).toBe('sub/b.bin');
    expect((await stat(join(copy, 'a.sh'))).mode & 0o777).toBe(0o750);
    expect((await readFile(join(copy, 'sub', 'b.bin'))).equals(Buffer.alloc(300_000, 7))).toBe(true);
  });

  it('go in and out one by one, renamed when asked', async () => {
    const { files } = subject.box;
    const single = join(host, 'tree', 'a.sh');
    await files.copyIn(single, '/root/renamed.sh');
    expect((await files.read('/root/renamed.sh')).toString()).toBe('#!/bin/sh\n');
    await files.makeDirectory('/root/dir/deep');
    await files.copyIn(single, '/root/dir/deep');
    expect((await files.stat('/root/dir/deep/a.sh'))?.sizeBytes).toBe(10);
    const target = join(host, `single-${subject.box.id}`);
    await files.copyOut('/root/renamed.sh', target);
    expect(await readFile(target, 'utf8')).toBe('#!/bin/sh\n');
  });

  it('follow links and keep what is there only when told so', async () => {
    const { files } = subject.box;
    await files.copyIn(join(host, 'tree'), '/root/followed', { followSymlinks: true });
    expect((await files.stat('/root/followed/link'))?.type).toBe('file');
    const again = files.copyIn(join(host, 'tree', 'a.sh'), '/root/followed/a.sh', { overwrite: false });
    await expect(again).rejects.toMatchObject({ code: 'already_exists' });
  });

  it('are written, read, renamed and removed', async () => {
    const { files } = subject.box;
    const content = Buffer.from([0, 255, 10, 13, 128]);
    await files.write('/root/new/dir/x y?#é', content, { mode: 0o600 });
    expect((await files.read('/root/new/dir/x y?#é')).equals(content)).toBe(true);
    expect((await files.stat('/root/new/dir/x y?#é'))?.mode).toBe(0o600);
    await files.write('/root/new/dir/empty', '');
    expect((await files.read('/root/new/dir/empty')).length).toBe(0);
    await files.rename('/root/new/dir/empty', '/root/new/moved');
    expect(await files.stat('/root/new/dir/empty')).toBeNull();
    await expect(files.remove('/root/new')).rejects.toMatchObject({ code: expect.any(String) as string });
    await files.remove('/root/new', { recursive: true });
    expect(await files.stat('/root/new')).toBeNull();
  });

  it('belong to whom they are made for, and replace others only when told so', async () => {
    const { box } = subject;
    const owner = { uid: 1000, gid: 1000 };
    await box.files.makeDirectory('/tmp/owned', { owner });
    await box.files.write('/tmp/owned/file', 'new', { owner });
    expect(await box.files.stat('/tmp/owned')).toMatchObject(owner);
    expect(await box.files.stat('/tmp/owned/file')).toMatchObject(owner);
    await box.files.write('/tmp/owned/other', 'old');
    const rename = (overwrite?: boolean) =>
      box.files.rename('/tmp/owned/file', '/tmp/owned/other', { overwrite });
    await expect(rename()).rejects.toMatchObject({ code: 'already_exists' });
    await rename(true);
    expect((await box.files.read('/tmp/owned/other')).toString()).toBe('new');
    await box.files.remove('/tmp/owned', { recursive: true });
  });

  it('that are missing are said to be', async () => {
    const { files } = subject.box;
    expect(await files.stat('/nope')).toBeNull();
    const missing = { code: 'not_found' };
    await expect(files.read('/nope')).rejects.toMatchObject(missing);
    await expect(files.list('/nope')).rejects.toMatchObject(missing);
    await expect(files.remove('/nope')).rejects.toMatchObject(missing);
    await expect(files.copyOut('/nope', join(host, 'x'))).rejects.toMatchObject(missing);
    await expect(files.copyIn(join(host, 'nope'), '/root')).rejects.toMatchObject(missing);
    await expect(files.read('relative')).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('stream without being held in memory', async () => {
    const { box } = subject;
    const total = 24 * 1024 * 1024;
    async function* zeros(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < total; at += 1 << 20) yield Buffer.alloc(1 << 20);
    }
    await box.files.write('/root/large', zeros());
    let bytes = 0;
    for await (const chunk of await box.files.pack('/root/large')) bytes += chunk.length;
    expect(bytes).toBeGreaterThanOrEqual(total);
    bytes = 0;
    for await (const chunk of await box.files.readStream('/root/large')) bytes += chunk.length;
    expect(bytes).toBe(total);
    const missing = box.files.readStream('/no/such');
    await expect(missing).rejects.toMatchObject({ code: 'not_found' });
    // A reader that leaves early leaves nothing behind.
    for await (const _chunk of await box.files.readStream('/root/large')) break;
    for await (const _chunk of await box.files.pack('/root/large')) break;
    await box.files.remove('/root/large');
    expect((await box.exec(['true'])).exitCode).toBe(0);
  });
});
