/** Looks into a disk with e2fsprogs, the reference implementation, without mounting it. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

/** What debugfs says about a file. */
export interface FileFacts {
  readonly inode: number;
  readonly type: string;
  readonly mode: string;
  readonly owner: string;
  readonly size: number;
  readonly links: number;
  /** Seconds and nanoseconds, as `seconds.nanoseconds`. */
  readonly modifiedAt: string;
  readonly device: string | undefined;
  readonly target: string | undefined;
  /** Hexadecimal values by name. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** Checks everything; the output names what is wrong. */
export async function fsck(disk: string): Promise<string> {
  const run = await execa('e2fsck', ['-fn', disk], { reject: false, all: true, timeout: 60_000 });
  return run.exitCode === 0 ? 'clean' : run.all;
}

/** Facts of files by path, in the order asked for. Paths must not hold quotes or newlines. */
export async function statFiles(disk: string, paths: readonly string[]): Promise<FileFacts[]> {
  const commands = `${disk}.commands`;
  await writeFile(commands, paths.map((path) => `stat "${path}"\n`).join(''));
  try {
    const { stdout } = await execa('debugfs', ['-f', commands, disk], {
      timeout: 60_000,
      maxBuffer: 256 * 2 ** 20,
    });
    return stdout
      .split(/^debugfs: stat .*$/m)
      .slice(1)
      .map(parseStat);
  } finally {
    await rm(commands);
  }
}

/** Copies all files out, with contents. */
export async function dumpFiles(disk: string, into: string): Promise<string> {
  const out = join(into, 'dump');
  await mkdir(out);
  await execa('debugfs', ['-R', `rdump / ${out}`, disk], { timeout: 60_000 });
  return out;
}

function parseStat(text: string): FileFacts {
  const find = (pattern: RegExp): string => pattern.exec(text)?.[1] ?? '';
  const [seconds = '0', extra = '0'] = find(/^ mtime: 0x([0-9a-f]+:[0-9a-f]+)/m).split(':');
  const extraBits = Number.parseInt(extra, 16);
  const wholeSeconds = (Number.parseInt(seconds, 16) | 0) + (extraBits & 3) * 2 ** 32;
  const attributes = [...text.matchAll(/^ {2}(\S+) \(\d+\) = (.*)$/gm)].map(([, name = '', value = '']) => [
    name,
    toHex(value),
  ]);
  return {
    inode: Number(find(/Inode: (\d+)/)),
    type: find(/Type: (\S+(?: special)?)/),
    mode: find(/Mode: +(\d+)/),
    owner: `${find(/User: +(\d+)/)}:${find(/Group: +(\d+)/)}`,
    size: Number(find(/Size: (\d+)/) || '0'),
    links: Number(find(/Links: (\d+)/)),
    modifiedAt: `${wholeSeconds}.${String(extraBits >>> 2).padStart(9, '0')}`,
    device: find(/Device major\/minor number: (\S+)/) || undefined,
    target: find(/Fast link dest: "(.*)"/) || undefined,
    attributes: Object.fromEntries(attributes),
  };
}

/** debugfs prints a value as quoted text when it is printable and as hexadecimal bytes otherwise. */
function toHex(value: string): string {
  if (value.startsWith('"')) return Buffer.from(value.slice(1, -1)).toString('hex');
  return value.replaceAll(' ', '');
}
