import { copyFile, mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isCryoboxError } from '../../src/errors.js';
import { change, changes, makeFileSystem, raw } from './support.js';

/** Bytes of the disks here: small, so that many of what is changed at random is metadata. */
const diskMib = 8;
const told = ['disk_image_invalid', 'resource_exhausted'];

describe('a file system that a guest wrote to do harm', () => {
  let directory: string;
  let disk: string;
  let bad: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cryobox-hostile-'));
    const files = join(directory, 'files');
    await mkdir(join(files, 'a/b'), { recursive: true });
    for (let i = 0; i < 200; i += 1) await writeFile(join(files, `a/file-${i}`), 'x'.repeat(i * 40));
    disk = join(directory, 'disk');
    bad = join(directory, 'bad');
    await makeFileSystem(disk, diskMib, files, ['-b', '1024', '-O', '^metadata_csum']);
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  async function write(at: number, bytes: Uint8Array): Promise<void> {
    const handle = await open(bad, 'r+');
    await handle.write(bytes, 0, bytes.length, at);
    await handle.close();
  }

  async function harmed(commands: readonly string[]): Promise<unknown> {
    await copyFile(disk, bad);
    await change(bad, commands);
    return await changes(raw(disk), raw(bad)).catch((error: unknown) => error);
  }

  it.each([
    ['a directory that is in itself', ['cd /a/b', 'link /a loop'], 'is in two places'],
    ['a length beyond all disks', ['set_inode_field /a/file-9 size 0x7fffffffffffffff'], 'says a length'],
    ['a name without an inode', ['clri /a/file-9'], 'not in use'],
    ['extents outside of the disk', ['set_inode_field /a/file-9 block[5] 0x7fffffff'], 'lies in block'],
    ['extents of no kind', ['set_inode_field /a/file-9 block[0] 0x1234'], 'a node is none'],
    ['a tree that is too deep', ['set_inode_field /a/file-9 block[1] 0x00090000'], 'wrong depth'],
    ['more extents than there is room', ['set_inode_field /a/file-9 block[0] 0x0100f30a'], 'in one node'],
    ['inodes outside of the disk', ['set_block_group 0 inode_table 99999999'], 'lie in block'],
    ['a feature that nobody knows', ['set_super_value feature_incompat 0x80000042'], 'not read here'],
    ['encryption', ['set_super_value feature_incompat 0x10042'], 'encrypt'],
    ['inodes that do not add up', ['set_super_value inodes_count 77'], 'inodes in its groups'],
  ])('is refused by an error that names it: %s', async (_name, commands, words) => {
    const error = await harmed(commands);
    expect(error).toMatchObject({ code: 'disk_image_invalid' });
    expect(String(error)).toContain(words);
  });

  it('is refused when it is none', async () => {
    await writeFile(bad, Buffer.alloc(diskMib * 2 ** 20));
    await expect(changes(raw(disk), raw(bad))).rejects.toMatchObject({ code: 'disk_image_invalid' });
    await writeFile(bad, 'short');
    await expect(changes(raw(bad), raw(disk))).rejects.toMatchObject({ code: 'disk_image_invalid' });
  });

  it('is read to an end, or refused by an error of the catalogue, whatever its bytes are', {
    timeout: 120_000,
  }, async () => {
    // Where metadata lies: superblock, descriptors, bitmaps, inodes, directories, journal.
    const place = fc.oneof(
      fc.nat(1024 * 1024 - 1),
      fc.integer({ min: 1024, max: 4096 }),
      fc.nat(diskMib * 2 ** 20 - 1),
    );
    const harm = fc.array(fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 8 })), {
      minLength: 1,
      maxLength: 60,
    });
    await fc.assert(
      fc.asyncProperty(harm, fc.boolean(), async (writes, recovers) => {
        await copyFile(disk, bad);
        for (const [at, bytes] of writes) await write(at, bytes);
        // The magic stays, and a journal that has to be replayed is often there.
        await write(1024 + 0x38, Buffer.from([0x53, 0xef]));
        if (recovers) await write(1024 + 0x60, Buffer.from([0x46]));
        const error: unknown = await changes(raw(disk), raw(bad)).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error === undefined || (isCryoboxError(error) && told.includes(error.code))) return;
        throw error;
      }),
      { numRuns: 150, seed: 19 },
    );
  });
});
