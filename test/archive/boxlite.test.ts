import { readdir, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readArchive } from '../../src/formats/archive/index.js';
import { qemuImg, temporaryDirectory } from '../disk/support.js';
import { packBoxlite } from './boxlite-maker.js';
import { makeDisk } from './support.js';

const MIB = 1024 * 1024;

/** An archive of a small disk. */
async function boxliteArchive(
  directory: string,
  options: Parameters<typeof packBoxlite>[1] = {},
): Promise<string> {
  await makeDisk(directory, 'disk.qcow2', 2 * MIB);
  // Free space at the end makes the file sparse, and some sparse members need more than one header.
  await truncate(join(directory, 'disk.qcow2'), 64 * MIB);
  return await packBoxlite(directory, options);
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
