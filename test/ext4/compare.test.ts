import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { changedBy, changes, lines, makeFileSystem, raw } from './support.js';

/** What mkfs.ext4 is asked for, and a box's disks never are. */
const shapes: Readonly<Record<string, readonly string[]>> = {
  'of mkfs.ext4': [],
  'with blocks of 1 KiB': ['-b', '1024'],
  'with blocks of 64 KiB': ['-b', '65536'],
  'without a journal': ['-O', '^has_journal'],
  'without 64bit, checksums and flexible groups': ['-O', '^64bit,^metadata_csum,^flex_bg'],
  'with content in inodes': ['-O', 'inline_data'],
  'with small inodes': ['-I', '128'],
  'without extents': ['-O', '^extents,^64bit'],
  'with clusters': ['-O', 'bigalloc', '-C', '16384'],
  'with a seed for checksums': ['-O', 'metadata_csum_seed'],
};

describe('changed files between two disks', () => {
  let directory: string;
  let files: string;
  let disk: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cryobox-ext4-'));
    files = join(directory, 'files');
    disk = join(directory, 'disk');
    await mkdir(join(files, 'a/deep/er'), { recursive: true });
    await mkdir(join(files, 'many'));
    for (let i = 0; i < 300; i += 1)
      await writeFile(join(files, `many/file-${i}`), `content ${i}\n`.repeat(i));
    await writeFile(join(files, 'a/deep/er/short'), 'short');
    await writeFile(join(files, 'a/large'), Buffer.alloc(3_000_000, 7));
    await symlink('large', join(files, 'a/link'));
    await symlink('x'.repeat(200), join(files, 'a/long-link'));
    await writeFile(join(files, 'a/new content'), 'as it was');
  });

  afterEach(() => rm(directory, { recursive: true, force: true }));

  it.each(Object.entries(shapes))('are told of a file system %s', async (_name, options) => {
    await makeFileSystem(disk, 64, files, options);
    expect(await changes(raw(disk), raw(disk))).toEqual([]);
    const input = join(directory, 'input');
    await writeFile(input, 'as it is'.repeat(50));
    const layers = await changedBy(directory, disk, [
      'rm /a/deep/er/short',
      'rmdir /a/deep/er',
      'cd /a',
      `write ${input} added`,
      'mkdir made',
      'rm "new content"',
      `write ${input} "new content"`,
      'rm link',
      'symlink link elsewhere',
      'rm long-link',
      'mknod pipe p',
      'cd /a/made',
      `write ${input} in-it`,
      'cd /many',
      'set_inode_field file-17 mode 0100600',
      'set_inode_field file-18 uid 70000',
      'ea_set file-19 user.colour blue',
      'set_inode_field file-21 mtime 20200101000000',
      'rm file-20',
      'mkdir file-20',
    ]);
    const expected = [
      'added /a/added',
      'removed /a/deep/er',
      'removed /a/deep/er/short',
      'modified /a/link',
      'removed /a/long-link',
      'added /a/made',
      'added /a/made/in-it',
      'modified /a/new content',
      'added /a/pipe',
      'metadata /many/file-17',
      'metadata /many/file-18',
      'metadata /many/file-19',
      'type /many/file-20',
      'metadata /many/file-21',
    ];
    const found = await changes(raw(disk), layers);
    expect(lines(found)).toEqual(expected);
    // The same bytes without anything shared, and in pages.
    expect(await changes(raw(disk), raw(join(directory, 'changed')))).toEqual(found);
    for (const limit of [1, 3]) expect(await changes(raw(disk), layers, limit)).toEqual(found);
    expect(found.find(({ path }) => path === '/a/new content')).toEqual({
      path: '/a/new content',
      kind: 'modified',
      typeBefore: 'file',
      typeAfter: 'file',
      sizeBefore: 9,
      sizeAfter: 400,
    });
    // The other way round, what was added is removed.
    const back = await changes(layers, raw(disk));
    expect(lines(back)).toEqual(
      expected.map((line) =>
        line.replace(/^(added|removed)/, (kind) => (kind === 'added' ? 'removed' : 'added')),
      ),
    );
  });

  it('go by what files hold where nothing is shared', async () => {
    await makeFileSystem(disk, 64, files);
    const copy = join(directory, 'copy');
    await execa('cp', ['-a', files, copy]);
    await writeFile(join(copy, 'a/large'), Buffer.concat([Buffer.alloc(2_999_999, 7), Buffer.from('x')]));
    await rm(join(copy, 'many/file-7'));
    const other = join(directory, 'other');
    await makeFileSystem(other, 96, copy, ['-b', '1024']);
    expect(lines(await changes(raw(disk), raw(other)))).toEqual([
      'modified /a/large',
      'removed /many/file-7',
    ]);
  });
});
