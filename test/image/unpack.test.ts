import { lstat, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { dumpFiles, fsck, statFiles } from './support/ext4.js';
import { TestHome } from './support/home.js';
import type { TestEntry } from './support/tar.js';

const directory = (name: string, more: Partial<TestEntry> = {}): TestEntry => ({
  name,
  type: '5',
  mode: 0o755,
  ...more,
});

/** Names of all files below a directory, sorted. */
async function namesBelow(root: string): Promise<string[]> {
  const { stdout } = await execa('find', [root, '-mindepth', '1', '-printf', '%P\n']);
  return stdout.split('\n').sort();
}

test('owner, mode, times, devices, links and attributes arrive as the tar has them', async () => {
  await using home = await TestHome.create();
  const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex');
  const acl = Buffer.from(
    '0200000001000700ffffffff02000500e803000004000500ffffffff10000500ffffffff20000500ffffffff',
    'hex',
  );
  await home.build({
    layers: [
      [
        directory('./', { mode: 0o711, uid: 3, mtime: 77 }),
        directory('bin/', { mode: 0o1777, uid: 5, gid: 6 }),
        {
          name: 'bin/su',
          content: 'x'.repeat(5000),
          mode: 0o4755,
          uid: 100_000,
          gid: 2_000_000_000,
          pax: { uid: '100000', gid: String(2_000_000_000), mtime: '1700000000.123456789' },
        },
        {
          name: 'bin/ping',
          content: 'ping',
          pax: { 'SCHILY.xattr.security.capability': capability, 'SCHILY.xattr.user.note': 'hi' },
        },
        { name: 'bin/acl', content: 'acl', pax: { 'SCHILY.xattr.system.posix_acl_access': acl } },
        { name: 'bin/big', content: 'big', pax: { 'SCHILY.xattr.user.big': 'v'.repeat(3000) } },
        { name: 'bin/mac', content: 'mac', pax: { 'SCHILY.xattr.com.apple.quarantine': 'x' } },
        { name: 'bin/sudo', type: '1', linkName: 'bin/su' },
        { name: 'bin/sh', type: '2', linkName: '../bin/su', mode: 0o777 },
        { name: 'bin/long', type: '2', linkName: `/${'t'.repeat(99)}/${'u'.repeat(99)}`, mode: 0o777 },
        { name: 'dev/null', type: '3', mode: 0o666, device: [1, 3] },
        { name: 'dev/nvme', type: '4', mode: 0o660, device: [259, 70_000] },
        { name: 'dev/pipe', type: '6', mode: 0o600 },
        { name: 'old', content: '', pax: { mtime: '-86400.5' } },
        { name: 'far', content: '', pax: { mtime: '7258118400' } },
      ],
    ],
  });
  expect(await fsck(home.disk)).toBe('clean');
  const [root, bin, su, ping, aclFile, mac, sudo, sh, long, nul, nvme, pipe, old, far] = await statFiles(
    home.disk,
    [
      '/',
      '/bin',
      '/bin/su',
      '/bin/ping',
      '/bin/acl',
      '/bin/mac',
      '/bin/sudo',
      '/bin/sh',
      '/bin/long',
      '/dev/null',
      '/dev/nvme',
      '/dev/pipe',
      '/old',
      '/far',
    ],
  );
  expect(root).toMatchObject({ inode: 2, mode: '0711', owner: '3:0', modifiedAt: '77.000000000', links: 9 });
  expect(bin).toMatchObject({ type: 'directory', mode: '01777', owner: '5:6', links: 2 });
  expect(su).toMatchObject({
    type: 'regular',
    mode: '04755',
    owner: '100000:2000000000',
    size: 5000,
    links: 2,
    modifiedAt: '1700000000.123456789',
  });
  expect(sudo?.inode).toBe(su?.inode);
  expect(ping?.attributes).toEqual({
    'security.capability': capability.toString('hex'),
    'user.note': Buffer.from('hi').toString('hex'),
  });
  expect(Object.keys(aclFile?.attributes ?? {})).toEqual(['system.posix_acl_access']);
  const { stdout: bigValue } = await execa('debugfs', ['-R', 'ea_get /bin/big user.big', home.disk]);
  expect(bigValue.match(/v/g)?.length).toBe(3000);
  expect(mac?.attributes).toEqual({});
  expect(sh).toMatchObject({ type: 'symlink', target: '../bin/su', size: 9 });
  expect(long).toMatchObject({ type: 'symlink', size: 200 });
  expect(nul).toMatchObject({ type: 'character special', mode: '0666', device: '01:03' });
  expect(nvme).toMatchObject({ type: 'block special', device: '259:70000' });
  expect(pipe).toMatchObject({ type: 'FIFO', mode: '0600' });
  expect(old?.modifiedAt).toBe('-86401.500000000');
  expect(far?.modifiedAt).toBe('7258118400.000000000');
});

test('higher layers replace, hide and keep what lower ones brought', async () => {
  await using home = await TestHome.create();
  await home.build({
    layers: [
      [
        directory('a/'),
        { name: 'a/one', content: '1' },
        { name: 'a/two', content: '2' },
        directory('b/'),
        { name: 'b/sub/deep', content: 'deep' },
        { name: 'b/gone', content: 'gone' },
        { name: 'c', content: 'file c' },
        directory('d/'),
        { name: 'd/x', content: 'x' },
        { name: 'usr/lib/base', content: 'base' },
        { name: 'lib', type: '2', linkName: 'usr/lib' },
        { name: 'linked', content: 'linked' },
        { name: 'alias', type: '1', linkName: 'linked' },
        directory('e/'),
        { name: 'e/kept', content: 'kept' },
        { name: 'e/hidden', content: 'hidden' },
      ],
      [
        { name: 'a/.wh.one' },
        { name: 'a/three', content: '3' },
        // Opaque after its new content: what this layer brings must stay.
        { name: 'b/sub/new', content: 'new' },
        { name: 'b/.wh..wh..opq' },
        directory('c/'),
        { name: 'c/inside', content: 'inside' },
        { name: 'd', content: 'now a file' },
        { name: 'lib/added', content: 'through the symlink' },
        { name: '.wh.linked' },
        { name: 'e/again', type: '1', linkName: 'e/kept' },
        { name: 'e/.wh..wh..opq' },
        { name: 'e/.wh..wh.plnk' },
        { name: 'nothing/.wh.there' },
        { name: '.wh.never' },
      ],
      [{ name: 'a/two', content: 'two again' }, { name: 'a/.wh.two' }],
    ],
  });
  expect(await fsck(home.disk)).toBe('clean');
  const out = await dumpFiles(home.disk, home.directory);
  expect(await namesBelow(out)).toEqual(
    [
      'a',
      'a/three',
      'a/two',
      'alias',
      'b',
      'b/sub',
      'b/sub/new',
      'c',
      'c/inside',
      'd',
      'e',
      'e/again',
      'lib',
      'usr',
      'usr/lib',
      'usr/lib/added',
      'usr/lib/base',
      ...['dev', 'etc', 'proc', 'run', 'sys', 'tmp'],
    ].sort(),
  );
  expect(await readFile(join(out, 'a/two'), 'utf8')).toBe('two again');
  expect(await readFile(join(out, 'd'), 'utf8')).toBe('now a file');
  expect(await readFile(join(out, 'alias'), 'utf8')).toBe('linked');
  expect(await readFile(join(out, 'e/again'), 'utf8')).toBe('kept');
  const [alias, again] = await statFiles(home.disk, ['/alias', '/e/again']);
  expect([alias?.links, again?.links]).toEqual([1, 1]);
});

test('names of any bytes survive', async () => {
  await using home = await TestHome.create();
  const latin = Buffer.from([0x63, 0xe9, 0xff]);
  const names = ['new\nline', 'quo"te', '<12>', ' space ', '*', '-dash', 'ü'.repeat(100), 'n'.repeat(255)];
  const entries: TestEntry[] = names.map((name) => ({
    name: `d/${name}`,
    content: name,
    pax: { path: `d/${name}` },
  }));
  await home.build({
    layers: [
      [...entries, { name: 'latin', content: 'l', pax: { path: Buffer.concat([Buffer.from('d/'), latin]) } }],
    ],
  });
  expect(await fsck(home.disk)).toBe('clean');
  const out = await dumpFiles(home.disk, home.directory);
  const found = (await readdir(join(out, 'd'), { encoding: 'buffer' }))
    .map((name) => name.toString('latin1'))
    .sort();
  const expected = [
    ...names.map((name) => Buffer.from(name).toString('latin1')),
    latin.toString('latin1'),
  ].sort();
  expect(found).toEqual(expected);
});

test('content of every length comes back, holes stay holes, replaced content leaves nothing', async () => {
  await using home = await TestHome.create();
  const pattern = (length: number, seed: number): Buffer =>
    Buffer.alloc(length, Buffer.from(`${seed} some pattern `));
  const lengths = [0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073, 3_000_000];
  const holed = Buffer.concat([pattern(200_000, 1), Buffer.alloc(20_000_000), pattern(10, 2)]);
  const disk = await home.build({
    layers: [
      [
        ...lengths.map((length) => ({ name: `f${length}`, content: pattern(length, length) })),
        { name: 'replaced', content: Buffer.alloc(9_000_000, 'replaced by a higher layer') },
      ],
      [{ name: 'holed', content: holed }, { name: 'replaced', content: 'small' }, { name: '.wh.f3000000' }],
    ],
  });
  expect(await fsck(home.disk)).toBe('clean');
  const out = await dumpFiles(home.disk, home.directory);
  for (const length of lengths.slice(0, -1))
    expect(await readFile(join(out, `f${length}`))).toEqual(pattern(length, length));
  expect((await readFile(join(out, 'holed'))).equals(holed)).toBe(true);
  expect(await readFile(join(out, 'replaced'), 'utf8')).toBe('small');
  expect((await readFile(home.disk)).includes('replaced by a higher')).toBe(false);
  expect(disk.sizeBytes).toBe((await stat(home.disk)).size);
  expect(disk.usedBytes).toBe((await lstat(home.disk)).blocks * 512);
});

test('a large directory and a fragmented file keep the file system sound', async () => {
  await using home = await TestHome.create();
  const many: TestEntry[] = Array.from({ length: 20_000 }, (_, index) => ({
    name: `many/file-${index}`,
    content: index % 100 === 0 ? 'x' : '',
  }));
  const piece = Buffer.concat([Buffer.alloc(128 * 1024, 'p'), Buffer.alloc(128 * 1024)]);
  const fragmented = Buffer.concat(Array.from({ length: 400 }, () => piece));
  await home.build(
    { layers: [[...many, { name: 'fragmented', content: fragmented }]] },
    { sizeBytes: 512 * 2 ** 20 },
  );
  expect(await fsck(home.disk)).toBe('clean');
  const out = await dumpFiles(home.disk, home.directory);
  expect((await readdir(join(out, 'many'))).length).toBe(20_000);
  expect((await readFile(join(out, 'fragmented'))).equals(fragmented)).toBe(true);
});

test('the same image gives the same bytes, another identity another uuid', async () => {
  await using home = await TestHome.create();
  const image = await home.import({
    layers: [
      [
        { name: 'b', content: 'b' },
        { name: 'a', content: 'a'.repeat(100_000) },
      ],
      [{ name: '.wh.b' }, { name: 'c', content: 'c' }],
    ],
  });
  const [first, second, other] = ['1', '2', '3'].map((name) => `${home.disk}.${name}`);
  await home.buildDisk(image, { path: first ?? '' });
  await home.buildDisk(image, { path: second ?? '' });
  await home.buildDisk(image, { path: other ?? '', identity: 'another' });
  await execa('cmp', [first ?? '', second ?? '']);
  await expect(execa('cmp', [first ?? '', other ?? ''])).rejects.toMatchObject({ exitCode: 1 });
});

test('the file system grows from 10 GiB to 100 GiB', async () => {
  await using home = await TestHome.create();
  await home.build({ layers: [[{ name: 'file', content: 'still here' }]] }, { sizeBytes: 10 * 2 ** 30 });
  expect((await stat(home.disk)).blocks * 512).toBeLessThan(8 * 2 ** 20);
  await execa('truncate', ['--size=100G', home.disk]);
  await execa('resize2fs', ['-f', home.disk], { timeout: 60_000 });
  expect(await fsck(home.disk)).toBe('clean');
  const { stdout } = await execa('dumpe2fs', ['-h', home.disk]);
  expect(stdout).toMatch(/Block count: +26214400/);
});
