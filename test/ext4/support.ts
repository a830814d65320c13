/** Disks with ext4 file systems made by e2fsprogs, and what differs between two of them. */
import { copyFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { execa } from 'execa';
import type { FileChange } from '../../src/api/index.js';
import { diffDisks } from '../../src/formats/ext4/index.js';
import type { KnownLayer } from '../../src/formats/qcow2/index.js';
import { openBoth } from '../../src/formats/qcow2/index.js';
import { qemuImg } from '../support/qemu-tools.js';

const toolLimitMs = 60_000;

/** Makes a file system of `sizeMib` MiB with the files of a directory. */
export async function makeFileSystem(
  path: string,
  sizeMib: number,
  from: string | undefined,
  options: readonly string[] = [],
): Promise<void> {
  const content = from === undefined ? [] : ['-d', from];
  await execa('mkfs.ext4', ['-q', '-F', ...options, ...content, path, `${sizeMib}M`], {
    timeout: toolLimitMs,
  });
}

/** Changes a file system by commands of debugfs; its journal is not used. */
export async function change(disk: string, commands: readonly string[]): Promise<void> {
  const { stdout, stderr } = await execa('debugfs', ['-w', '-f', '-', disk], {
    input: commands.join('\n'),
    timeout: toolLimitMs,
  });
  const failure = /^.*(?:not found|No such|Usage|Invalid|failed).*$/im.exec(`${stdout}\n${stderr}`);
  if (failure) throw new Error(`debugfs: ${failure[0]}`);
}

/** A raw disk as the layers of a chain. */
export function raw(path: string): KnownLayer[] {
  return [{ name: path, path, format: 'raw' }];
}

/** A disk as a layer over another one: only the clusters that differ are in it. */
export async function overlayOf(base: string, changed: string, path: string): Promise<KnownLayer[]> {
  await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-B', base, '-F', 'raw', changed, path);
  // Backing files are named without a directory.
  await qemuImg('rebase', '-u', '-f', 'qcow2', '-b', basename(base), '-F', 'raw', path);
  return [{ name: path, path, format: 'qcow2' }, ...raw(base)];
}

/** A copy of a disk that commands of debugfs have changed, as a layer over it. */
export async function changedBy(
  directory: string,
  base: string,
  commands: readonly string[],
): Promise<KnownLayer[]> {
  const copy = join(directory, 'changed');
  await copyFile(base, copy);
  await change(copy, commands);
  return await overlayOf(base, copy, join(directory, 'layer'));
}

/** All changed files, read in pages of `limit`. */
export async function changes(
  from: readonly KnownLayer[],
  to: readonly KnownLayer[],
  limit = 10_000,
): Promise<FileChange[]> {
  await using disks = await openBoth(from, to);
  const all: FileChange[] = [];
  for (let after: string | undefined, next: string | null = ''; next !== null; after = next ?? undefined) {
    const page = await diffDisks(
      { chain: disks.from, what: 'the first disk' },
      { chain: disks.to, what: 'the second disk' },
      { limit, after },
    );
    if (page.changes.length > limit) throw new Error('a page is too long');
    all.push(...page.changes);
    next = page.next;
  }
  return all;
}

/** Changes as lines: kind and path. */
export function lines(all: readonly FileChange[]): string[] {
  return all.map(({ kind, path }) => `${kind} ${path}`);
}
