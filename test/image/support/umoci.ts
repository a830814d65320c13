/** What umoci unpacks, to compare a disk with. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, mkdir, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

/** What is compared of a file. Link counts of directories are the file system's own matter. */
export interface Facts {
  readonly type: string;
  readonly mode: string;
  readonly owner: string;
  readonly links: number | undefined;
  readonly size: number | undefined;
  readonly modifiedAt: string;
  readonly device: string | undefined;
  readonly content: string | undefined;
}

/** Whether owners and devices can be made and compared. */
export const isRoot = process.getuid?.() === 0;
/** What umoci needs to run without root. */
export const rootless = isRoot ? [] : ['--rootless'];

/** Runs umoci. */
export async function umoci(...args: string[]): Promise<void> {
  await execa('umoci', args, { timeout: 60_000 });
}

/** SHA-256 of a file. */
export async function hashOf(path: string): Promise<string> {
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
export async function factsOnHost(path: string): Promise<Facts> {
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
export async function attributesOnHost(root: string): Promise<Map<string, Record<string, string>>> {
  const { stdout } = await execa(
    'getfattr',
    ['--recursive', '--dump', '--no-dereference', '--match=-', '--encoding=hex', '.'],
    { cwd: root },
  );
  const found = new Map<string, Record<string, string>>();
  for (const block of stdout.split('\n\n')) {
    const [head = '', ...lines] = block.split('\n');
    // Without root umoci notes the owner it could not set.
    const own = lines.filter((line) => !line.startsWith('user.rootlesscontainers='));
    const values = own.map((line) => line.split('=0x') as [string, string]);
    found.set(`/${head.replace('# file: ', '')}`, Object.fromEntries(values));
  }
  return found;
}

/** Changes a root as a second layer would: adds, replaces, removes, links. */
export async function change(root: string): Promise<void> {
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
