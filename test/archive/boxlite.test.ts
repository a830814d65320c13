import { createHash } from 'node:crypto';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readArchive } from '../../src/archive/index.js';
import { qemuImg, temporaryDirectory } from '../disk/support.js';
import { makeDisk, tool } from './support.js';

const MIB = 1024 * 1024;

interface Options {
  readonly manifest?: Readonly<Record<string, unknown>>;
  readonly tarOptions?: readonly string[];
  readonly extra?: readonly string[];
  readonly plain?: boolean;
}

/** An archive in the shape BoxLite 0.10 writes: a zstd tar of manifest.json and disk.qcow2. */
async function boxliteArchive(directory: string, options: Options = {}): Promise<string> {
  await makeDisk(directory, 'disk.qcow2', 2 * MIB);
  // Free space at the end makes the file sparse, and some sparse members need more than one header.
  await truncate(join(directory, 'disk.qcow2'), 64 * MIB);
  const hash = createHash('sha256').update(await readFile(join(directory, 'disk.qcow2')));
  const manifest = {
    version: 3,
    box_name: 'web',
    image: 'alpine:latest',
    box_options: { cpus: 2, memory_mib: 512 },
    guest_disk_checksum: '',
    container_disk_checksum: `sha256:${hash.digest('hex')}`,
    exported_at: '2026-01-02T03:04:05Z',
    ...options.manifest,
  };
  await writeFile(join(directory, 'manifest.json'), JSON.stringify(manifest));
  const files = ['manifest.json', 'disk.qcow2', ...(options.extra ?? [])];
  const format = options.tarOptions ?? ['--format=gnu'];
  await tool(directory, 'tar', ...format, '-cf', 'made.tar', ...files);
  if (options.plain) return join(directory, 'made.tar');
  await tool(directory, 'zstd', '-q', '-3', 'made.tar', '-o', 'made.boxlite');
  return join(directory, 'made.boxlite');
}

describe('archives of BoxLite', () => {
  it.each([
    [3, ['--format=gnu']],
    [4, ['--format=ustar']],
    [5, ['--format=gnu', '--sparse']],
  ] as const)('of version %d are read (tar %j)', async (version, tarOptions) => {
    const directory = await temporaryDirectory();
    const out = await temporaryDirectory();
    const source = await boxliteArchive(directory, { manifest: { version }, tarOptions });
    const { manifest, members } = await readArchive({ source, directory: out });
    expect(manifest).toMatchObject({
      version,
      boxName: 'web',
      image: 'alpine:latest',
      options: { cpus: 2, memory_mib: 512 },
    });
    expect(members.map(({ name, sizeBytes }) => [name, sizeBytes])).toEqual([['disk.qcow2', 64 * MIB]]);
    const path = join(out, 'disk.qcow2');
    expect(await qemuImg('compare', path, join(directory, 'disk.qcow2'))).toContain('identical');
    expect((await stat(path)).blocks * 512).toBeLessThan(4 * MIB);
  });

  it.each([
    ['another hash', { manifest: { container_disk_checksum: `sha256:${'0'.repeat(64)}` } }, 'the hash'],
    ['no hash', { manifest: { container_disk_checksum: '' } }, 'container_disk_checksum'],
    ['a guest disk', { manifest: { guest_disk_checksum: 'sha256:00' } }, 'guest_disk_checksum'],
    ['another member', { extra: ['disk.qcow2.raw'] }, 'more members'],
    ['no compression', { plain: true }, 'always packed with zstd'],
    ['an extended header', { tarOptions: ['--format=pax'] }, 'type "x"'],
  ] as const)('are refused with %s', async (_what, options, message) => {
    const directory = await temporaryDirectory();
    const out = await temporaryDirectory();
    const read = readArchive({ source: await boxliteArchive(directory, options), directory: out });
    await expect(read).rejects.toMatchObject({ code: 'archive_invalid' });
    await expect(read).rejects.toThrow(message);
    expect(await readdir(out)).toEqual([]);
  });
});
