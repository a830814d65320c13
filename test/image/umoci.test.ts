import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, readdir, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { importImage } from '../../src/image/import.js';
import { debianLayout } from './support/debian.js';
import { dumpFiles, fsck, statFiles } from './support/ext4.js';
import { TestHome } from './support/home.js';

/** What is compared of a file. Link counts of directories are the file system's own matter. */
interface Facts {
  readonly type: string;
  readonly mode: string;
  readonly owner: string;
  readonly links: number | undefined;
  readonly size: number | undefined;
  readonly modifiedAt: string;
  readonly device: string | undefined;
  readonly content: string | undefined;
}

const isRoot = process.getuid?.() === 0;
const rootless = isRoot ? [] : ['--rootless'];

async function umoci(...args: string[]): Promise<void> {
  await execa('umoci', args, { timeout: 60_000 });
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

const typeNames: readonly (readonly [number, string])[] = [
  [0o100000, 'regular'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
  [0o020000, 'character special'],
  [0o060000, 'block special'],
  [0o010000, 'FIFO'],
];

/** Facts of a file umoci unpacked. */
async function factsOnHost(path: string): Promise<Facts> {
  const facts = await lstat(path, { bigint: true });
  const type = typeNames.find(([bits]) => (Number(facts.mode) & 0o170000) === bits)?.[1] ?? 'unknown';
  const content =
    type === 'regular' ? await hashOf(path) : type === 'symlink' ? await readlink(path) : undefined;
  const device = type.endsWith('special')
    ? [(facts.rdev >> 8n) & 0xfffn, (facts.rdev & 0xffn) | ((facts.rdev >> 12n) & 0xfff00n)]
        .map(String)
        .join(':')
    : undefined;
  return {
    type,
    mode: (Number(facts.mode) & 0o7777).toString(8),
    owner: `${facts.uid}:${facts.gid}`,
    links: type === 'directory' ? undefined : Number(facts.nlink),
    size: type === 'regular' ? Number(facts.size) : undefined,
    modifiedAt: `${facts.mtimeNs / 1_000_000_000n}.${String(facts.mtimeNs % 1_000_000_000n).padStart(9, '0')}`,
    device,
    content,
  };
}

/** Extended attributes of a tree as getfattr prints them, by path. */
async function attributesOnHost(root: string): Promise<Map<string, Record<string, string>>> {
  const { stdout } = await execa(
    'getfattr',
    ['--recursive', '--dump', '--no-dereference', '--match=-', '--encoding=hex', '.'],
    { cwd: root },
  );
  const found = new Map<string, Record<string, string>>();
  for (const block of stdout.split('\n\n')) {
    const [head = '', ...lines] = block.split('\n');
    const values = lines.map((line) => line.split('=0x') as [string, string]);
    found.set(`/${head.replace('# file: ', '')}`, Object.fromEntries(values));
  }
  return found;
}

/** Changes a root as a second layer would: adds, replaces, removes, links. */
async function change(root: string): Promise<void> {
  await execa('rm', ['-r', join(root, 'usr/share/zoneinfo'), join(root, 'etc/issue')], { reject: false });
  await execa('rm', ['-r', join(root, 'var/lib/dpkg/info')]);
  await mkdir(join(root, 'var/lib/dpkg/info'));
  await writeFile(join(root, 'var/lib/dpkg/info/new'), 'only this');
  await writeFile(join(root, 'etc/hostname'), 'changed\n');
  await execa('ln', [join(root, 'bin/busybox'), join(root, 'usr/local/bin/busybox')]);
  await execa('ln', ['-s', '../../bin/busybox', join(root, 'usr/local/sh')]);
  await execa('mkfifo', [join(root, 'run/pipe')]);
  await execa('chmod', ['2755', join(root, 'bin/busybox')]);
  await execa('setfattr', ['-n', 'user.note', '-v', 'kept', join(root, 'etc/passwd')]);
  if (!isRoot) return;
  await execa('mknod', [join(root, 'run/loop'), 'b', '7', '300']);
  await execa('chown', ['1234:100000', join(root, 'etc/hostname')]);
  await execa('setfattr', [
    '-n',
    'security.capability',
    '-v',
    '0x0100000200040000000000000000000000000000',
    join(root, 'bin/busybox'),
  ]);
}

test('the disk equals what umoci unpacks, file by file', { timeout: 180_000 }, async () => {
  await using home = await TestHome.create();
  const layout = join(home.directory, 'layout');
  await debianLayout(layout, 'base');
  const first = join(home.directory, 'first');
  await umoci('unpack', ...rootless, '--image', `${layout}:base`, first);
  await change(join(first, 'rootfs'));
  await umoci('repack', '--image', `${layout}:changed`, first);
  const second = join(home.directory, 'second');
  await umoci('unpack', ...rootless, '--image', `${layout}:changed`, second);
  const root = join(second, 'rootfs');

  const image = await importImage({
    source: layout,
    tag: 'changed',
    store: home.store,
    scratchDirectory: home.scratch,
  });
  expect(image.layers.length).toBe(2);
  await home.buildDisk(image, { sizeBytes: 2 ** 30 });
  expect(await fsck(home.disk)).toBe('clean');

  const { stdout } = await execa('find', [root, '-printf', '/%P\\n'], { maxBuffer: 64 * 2 ** 20 });
  const paths = stdout.split('\n');
  const dump = await dumpFiles(home.disk, home.directory);
  const dumped = await execa(
    'find',
    [
      dump,
      '-mindepth',
      '1',
      '(',
      '-type',
      'f',
      '-o',
      '-type',
      'd',
      '-o',
      '-type',
      'l',
      ')',
      '-printf',
      '/%P\\n',
    ],
    { maxBuffer: 64 * 2 ** 20 },
  );
  const onDisk = await statFiles(home.disk, paths);
  const attributes = await attributesOnHost(root);
  const differences: unknown[] = [];
  for (const [index, path] of paths.entries()) {
    const expected = await factsOnHost(join(root, path));
    const actual = onDisk[index];
    if (!actual) throw new Error(`no facts of ${path}`);
    const { type } = actual;
    const content =
      type === 'regular'
        ? await hashOf(join(dump, path))
        : type === 'symlink'
          ? await readlink(join(dump, path))
          : undefined;
    const facts: Facts = {
      type,
      mode: Number.parseInt(actual.mode, 8).toString(8),
      owner: isRoot ? actual.owner : expected.owner,
      links: type === 'directory' ? undefined : actual.links,
      size: type === 'regular' ? actual.size : undefined,
      modifiedAt: actual.modifiedAt,
      device: actual.device?.split(':').map(Number).join(':'),
      content,
    };
    const both = [
      { ...facts, attributes: actual.attributes },
      { ...expected, attributes: attributes.get(path) ?? {} },
    ];
    if (JSON.stringify(both[0]) !== JSON.stringify(both[1]))
      differences.push({ path, disk: both[0], umoci: both[1] });
  }
  expect(differences).toEqual([]);
  expect(paths.length).toBeGreaterThan(3000);
  // Nothing is on the disk that umoci does not have; debugfs does not dump devices and pipes, which were compared above.
  expect(dumped.stdout.split('\n').filter((path) => !paths.includes(path))).toEqual([]);
  expect(await readdir(join(dump, 'var/lib/dpkg/info'))).toEqual(['new']);
});
