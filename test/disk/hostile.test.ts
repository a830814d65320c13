import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CryoboxError } from '../../src/errors.js';
import { createOverlay, openChain, readHeader } from '../../src/formats/qcow2/index.js';
import { patch, qemuImg, temporaryDirectory } from './support.js';

const MIB = 1024 * 1024;

async function messageOfHeader(path: string): Promise<string> {
  try {
    await readHeader(path);
  } catch (error) {
    if (error instanceof CryoboxError && error.code === 'disk_image_invalid') return error.message;
    throw error;
  }
  return 'accepted';
}

describe('readHeader', () => {
  it.each([
    ['another magic', 0, 'u32', 0, 'not a qcow2 image'],
    ['version 2', 4, 'u32', 2, 'qcow2 version is 2'],
    ['small clusters', 20, 'u32', 9, 'cluster bits is 9'],
    ['an absurd size', 24, 'u64', 2n ** 63n, 'absurd'],
    ['a size beyond the limit', 24, 'u64', 2n ** 50n, 'virtual size'],
    ['a size that is no multiple of 512', 24, 'u64', 1000n, 'virtual size'],
    ['encryption', 32, 'u32', 2, 'encryption method is 2'],
    ['a huge L1 table', 36, 'u32', 0xffffffff, 'L1 table of 4294967295 entries'],
    ['an L1 table that is too short', 36, 'u32', 0, 'L1 table of 0 entries'],
    ['an L1 table past the end', 40, 'u64', 2n ** 40n, 'L1 table at'],
    ['an unaligned L1 table', 40, 'u64', 0x30200n, 'L1 table at'],
    ['an L1 table over the header', 40, 'u64', 0n, 'L1 table at 0'],
    ['a refcount table past the end', 48, 'u64', 2n ** 40n, 'refcount table at'],
    ['no refcount table', 56, 'u32', 0, 'refcount table of 0 clusters'],
    ['a huge refcount table', 56, 'u32', 0xffffffff, 'refcount table of 4294967295 clusters'],
    ['internal snapshots', 60, 'u32', 3, 'number of internal snapshots is 3'],
    ['the corrupt mark', 72, 'u64', 2n, 'marked as corrupt'],
    ['an external data file', 72, 'u64', 4n, 'external data'],
    ['extended L2 entries', 72, 'u64', 16n, 'extended L2'],
    ['an unknown feature', 72, 'u64', 2n ** 40n, 'unknown incompatible features'],
    ['one-bit refcounts', 96, 'u32', 0, 'refcount order is 0'],
    ['a short header', 100, 'u32', 72, 'header length 72'],
    ['a header beyond the file', 100, 'u32', 0xfffffff8, 'header length 4294967288'],
    ['an unknown compression', 104, 'u32', 0x02000000, 'compression type 2'],
    ['an endless extension', 116, 'u32', 0xffffffff, 'extension leaves'],
    ['a backing name outside the header', 8, 'u64', 2n ** 30n, 'backing name lies outside'],
    ['a huge backing name', 16, 'u32', 0xffffffff, 'backing name lies outside'],
  ] as const)('refuses %s', async (_what, at, kind, value, message) => {
    const path = join(await temporaryDirectory(), 'a.qcow2');
    const backing = { name: 'base', format: 'raw' } as const;
    await createOverlay({ path, virtualSizeBytes: 1024 * MIB, backing });
    await patch(path, at, kind, value);
    expect(await messageOfHeader(path)).toContain(message);
  });

  it.each(['/etc/passwd', '../base', 'json:{"driver":"null-co"}', 'nbd:localhost:1'])(
    'refuses the backing name %s',
    async (name) => {
      const path = join(await temporaryDirectory(), 'a.qcow2');
      await qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'raw', path, '1M');
      expect(await messageOfHeader(path)).toContain('not a plain file name');
    },
  );

  it('refuses a backing format it would have to guess, or does not know', async () => {
    const path = join(await temporaryDirectory(), 'a.qcow2');
    await qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', 'b', '-F', 'vmdk', path, '1M');
    expect(await messageOfHeader(path)).toContain('"vmdk" is neither');
    await patch(path, 112, 'u32', 0x12345678);
    expect(await messageOfHeader(path)).toContain('format of the backing file is not given');
  });

  it.each([0, 1, 103, 104, 200])('refuses a file of %d bytes', async (length) => {
    const path = join(await temporaryDirectory(), 'a.qcow2');
    await writeFile(path, Buffer.from('QFI\xfb'.padEnd(length, '\0').slice(0, length), 'latin1'));
    expect(await messageOfHeader(path)).not.toBe('accepted');
  });

  it('refuses a directory and a symbolic link', async () => {
    const directory = await temporaryDirectory();
    await expect(readHeader(directory)).rejects.toMatchObject({ code: 'disk_image_invalid' });
    await createOverlay({ path: join(directory, 'a'), virtualSizeBytes: MIB });
    await symlink('a', join(directory, 'link'));
    await expect(readHeader(join(directory, 'link'))).rejects.toMatchObject({ code: 'storage_error' });
  });
});

describe('openChain', () => {
  it('finds loops', async () => {
    const directory = await temporaryDirectory();
    for (const [name, under] of [
      ['a', 'b'],
      ['b', 'c'],
      ['c', 'a'],
    ] as const) {
      const backing = { name: under, format: 'qcow2' } as const;
      await createOverlay({ path: join(directory, name), virtualSizeBytes: MIB, backing });
    }
    await expect(openChain({ directory, top: 'a' })).rejects.toThrow('a: it is its own backing file');
  });

  it('stops at 64 layers', async () => {
    const directory = await temporaryDirectory();
    for (let i = 0; i < 65; i += 1) {
      const backing = i === 0 ? undefined : ({ name: `l${i - 1}`, format: 'qcow2' } as const);
      await createOverlay({ path: join(directory, `l${i}`), virtualSizeBytes: MIB, backing });
    }
    await using chain = await openChain({ directory, top: 'l63' });
    expect(chain.depth).toBe(64);
    await expect(openChain({ directory, top: 'l64' })).rejects.toThrow('more than 64 layers');
  });

  it('says which layer is missing and keeps no file open', async () => {
    const directory = await temporaryDirectory();
    const backing = { name: 'gone', format: 'raw' } as const;
    await createOverlay({ path: join(directory, 'a'), virtualSizeBytes: MIB, backing });
    const opened = openChain({ directory, top: 'a' });
    await expect(opened).rejects.toMatchObject({ code: 'storage_error' });
    await expect(opened).rejects.toThrow('gone');
  });

  it('refuses a top that is a path', async () => {
    await expect(openChain({ directory: '/', top: 'etc/passwd' })).rejects.toMatchObject({
      code: 'invalid_argument',
    });
  });
});
