import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { packHostTree } from '../../src/base/host-pack.js';
import { unpackHostTree } from '../../src/base/host-unpack.js';
import { temporaryDirectory } from '../server/support.js';

type Entry = Parameters<ReturnType<typeof pack>['entry']>[0];

function tarOf(entries: readonly [Entry, string?][]): AsyncIterable<Uint8Array> {
  const tar = pack();
  for (const [header, content] of entries) tar.entry(header, content ?? '');
  tar.finalize();
  return tar as unknown as AsyncIterable<Uint8Array>;
}

describe('a tree', () => {
  it('comes back with contents, modes, times and links', async () => {
    const root = await temporaryDirectory();
    const source = join(root, 'source');
    await mkdir(join(source, 'empty'), { recursive: true });
    await mkdir(join(source, 'sub'));
    const big = Buffer.alloc(1_000_000, 'x');
    await writeFile(join(source, 'sub', 'big'), big);
    await writeFile(join(source, 'run.sh'), '#!/bin/sh\n');
    await chmod(join(source, 'run.sh'), 0o751);
    await utimes(join(source, 'run.sh'), 1000, 1000);
    await symlink('sub/big', join(source, 'link'));
    await symlink('/nowhere', join(source, 'dangling'));

    const result = await unpackHostTree(packHostTree(source), join(root, 'copy'));
    expect(result).toEqual({ entries: 7, bytes: 1_000_010 });
    expect((await readdir(join(root, 'copy'))).sort()).toEqual([
      'dangling',
      'empty',
      'link',
      'run.sh',
      'sub',
    ]);
    expect((await readFile(join(root, 'copy', 'sub', 'big'))).equals(big)).toBe(true);
    const script = await stat(join(root, 'copy', 'run.sh'));
    expect([script.mode & 0o777, script.mtimeMs]).toEqual([0o751, 1_000_000]);
    expect(await readlink(join(root, 'copy', 'link'))).toBe('sub/big');

    await unpackHostTree(packHostTree(join(source, 'sub'), { followSymlinks: true }), join(root, 'sub'));
    expect(await readdir(join(root, 'sub'))).toEqual(['big']);
  });

  it('of one file is written as the destination, or into it when it is a directory', async () => {
    const root = await temporaryDirectory();
    await writeFile(join(root, 'a.txt'), 'content');
    await unpackHostTree(packHostTree(join(root, 'a.txt')), join(root, 'b.txt'));
    await mkdir(join(root, 'dir'));
    await unpackHostTree(packHostTree(join(root, 'a.txt')), join(root, 'dir'));
    await unpackHostTree(packHostTree(join(root, 'a.txt')), join(root, 'new/'));
    for (const copy of ['b.txt', 'dir/a.txt', 'new/a.txt']) {
      expect(await readFile(join(root, copy), 'utf8')).toBe('content');
    }
  });

  it('that is not there, or is no file, is a typed error', async () => {
    const root = await temporaryDirectory();
    const missing = unpackHostTree(packHostTree(join(root, 'missing')), join(root, 'copy'));
    await expect(missing).rejects.toMatchObject({ code: 'not_found' });
    await expect(unpackHostTree(packHostTree('/dev/null'), join(root, 'x'))).rejects.toMatchObject({
      code: 'unsupported',
    });
    const aborted = packHostTree(root, { signal: AbortSignal.abort() });
    await expect(unpackHostTree(aborted, join(root, 'x'))).rejects.toMatchObject({ code: 'cancelled' });
  });

  it('does not replace files when told so', async () => {
    const root = await temporaryDirectory();
    await writeFile(join(root, 'old'), 'old');
    await writeFile(join(root, 'new'), 'new');
    const kept = unpackHostTree(packHostTree(join(root, 'new')), join(root, 'old'), { overwrite: false });
    await expect(kept).rejects.toMatchObject({ code: 'already_exists' });
    expect(await readFile(join(root, 'old'), 'utf8')).toBe('old');
  });
});

describe('a hostile tar', () => {
  it.each<[string, [Entry, string?][]]>([
    ['a parent directory', [[{ name: '../out' }, 'x']]],
    ['an absolute name', [[{ name: '/tmp/cryobox-out' }, 'x']]],
    [
      'a link, then a file through it',
      [[{ name: 'd', type: 'symlink', linkname: '..' }], [{ name: 'd/out' }, 'x']],
    ],
    [
      'a link deeper down',
      [
        [{ name: 'a/', type: 'directory' }],
        [{ name: 'a/l', type: 'symlink', linkname: '../..' }],
        [{ name: 'a/l/out' }, 'x'],
      ],
    ],
    ['a hard link outwards', [[{ name: 'h', type: 'link', linkname: '../secret' }]]],
  ])('cannot write outside: %s', async (_name, entries) => {
    const root = await temporaryDirectory();
    await mkdir(join(root, 'to'));
    await writeFile(join(root, 'secret'), 'secret');
    await expect(unpackHostTree(tarOf(entries), join(root, 'to'))).rejects.toMatchObject({
      code: 'archive_invalid',
    });
    expect((await readdir(root)).sort()).toEqual(['secret', 'to']);
  });

  it('replaces a link, and does not write through it', async () => {
    const root = await temporaryDirectory();
    await mkdir(join(root, 'to'));
    await writeFile(join(root, 'secret'), 'secret');
    await symlink('../secret', join(root, 'to', 'l'));
    await unpackHostTree(tarOf([[{ name: 'l' }, 'x']]), join(root, 'to'));
    expect(await readFile(join(root, 'secret'), 'utf8')).toBe('secret');
    expect((await lstat(join(root, 'to', 'l'))).isFile()).toBe(true);
  });

  it('leaves no set-id programs and no devices', async () => {
    const root = await temporaryDirectory();
    await unpackHostTree(tarOf([[{ name: 'su', mode: 0o6755 }, 'x']]), join(root, 'su'));
    expect((await stat(join(root, 'su'))).mode & 0o7777).toBe(0o755);
    const device = tarOf([[{ name: 'd/', type: 'directory' }], [{ name: 'd/sda', type: 'block-device' }]]);
    await expect(unpackHostTree(device, join(root, 'dev'))).rejects.toMatchObject({ code: 'unsupported' });
  });

  it('that ends early or is none is refused', async () => {
    const root = await temporaryDirectory();
    async function* half(): AsyncGenerator<Uint8Array> {
      for await (const chunk of tarOf([[{ name: 'f' }, 'x'.repeat(2000)]])) yield chunk.subarray(0, 700);
    }
    await expect(unpackHostTree(half(), join(root, 'a'))).rejects.toMatchObject({ code: 'archive_invalid' });
    async function* noise(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(2048, 'x');
    }
    await expect(unpackHostTree(noise(), join(root, 'b'))).rejects.toMatchObject({ code: 'archive_invalid' });
  });
});
