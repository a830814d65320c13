import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readArchive, writeArchive } from '../../src/formats/archive/index.js';
import { qemuImg, temporaryDirectory } from '../disk/support.js';
import { bytesMember, diskMember, facts, makeDisk, tool } from './support.js';

const MIB = 1024 * 1024;

async function sha256(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

describe('an archive', () => {
  it.each([true, false])('brings disks back as they were (compress: %s)', async (compress) => {
    const directory = await temporaryDirectory();
    await makeDisk(directory, 'guest', 3 * MIB);
    await makeDisk(directory, 'box', 9 * MIB + 512);
    const members = [
      await diskMember(directory, 'guest', 'guest-rootfs.qcow2'),
      await diskMember(directory, 'box', 'disk.qcow2'),
    ];
    const path = join(directory, 'a.boxsnap');
    const seen: number[] = [];
    const onProgress = ({ doneBytes }: { doneBytes: number }): void => {
      seen.push(doneBytes);
    };
    const written = await writeArchive({ path, members, facts, compress, onProgress });
    expect((await stat(path)).size).toBe(written.sizeBytes);
    expect(seen.at(-1)).toBe(members.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));

    for (const source of [path, createReadStream(path, { highWaterMark: 777 })]) {
      const out = await temporaryDirectory();
      const read = await readArchive({ source, directory: out, durable: true });
      expect(read.manifest).toEqual(written.manifest);
      expect(read.manifest).toMatchObject({ version: 6, ...facts });
      expect(read.members.map(({ name, sha256, sizeBytes }) => ({ name, sha256, sizeBytes }))).toEqual(
        written.manifest.members,
      );
      for (const [name, original] of [
        ['guest-rootfs.qcow2', 'guest'],
        ['disk.qcow2', 'box'],
      ] as const) {
        await qemuImg('check', join(out, name));
        expect(await qemuImg('compare', join(out, name), join(directory, original))).toContain('identical');
      }
      expect(await sha256(join(out, 'disk.qcow2'))).toBe(read.members[1]?.sha256);
      // Clusters of zeros take no disk.
      expect((await stat(join(out, 'disk.qcow2'))).blocks * 512).toBeLessThan(9 * MIB);
    }
  });

  it.each([true, false])('can be opened with zstd and tar (compress: %s)', async (compress) => {
    const directory = await temporaryDirectory();
    const bytes = Buffer.alloc(200_000, 'cryobox ');
    const path = join(directory, 'a.boxsnap');
    await writeArchive({ path, members: [bytesMember('notes.txt', bytes)], facts, compress });
    if (compress) await tool(directory, 'zstd', '-dq', path, '-o', 'a.tar');
    const tar = compress ? 'a.tar' : 'a.boxsnap';
    expect(await tool(directory, 'tar', 'tf', tar)).toBe('manifest.json\nnotes.txt\n');
    await tool(directory, 'tar', 'xf', tar);
    expect((await readFile(join(directory, 'notes.txt'))).equals(bytes)).toBe(true);
    const manifest = JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8'));
    expect(manifest.members[0].sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
  });

  it('packs more at a higher level, and refuses levels there are not', async () => {
    const directory = await temporaryDirectory();
    const text = Buffer.from(Array.from({ length: 60_000 }, (_, i) => `${i * i} `).join(''));
    const write = async (compressionLevel: number): Promise<number> => {
      const path = join(directory, 'a.boxsnap');
      const members = [bytesMember('text', text)];
      return (await writeArchive({ path, members, facts, compressionLevel })).sizeBytes;
    };
    expect(await write(19)).toBeLessThan(await write(1));
    for (const level of [0, 20, 1.5, Number.NaN]) {
      await expect(write(level)).rejects.toMatchObject({ code: 'invalid_argument' });
    }
  });
});

describe('writing', () => {
  const bytes = Buffer.alloc(3 * MIB, 7);
  const lying = (sizeBytes: number) => ({ ...bytesMember('a', bytes), sizeBytes });
  const failing = {
    name: 'a',
    sizeBytes: 10,
    // biome-ignore lint/correctness/useYield: a source that fails before it gives anything.
    async *open(): AsyncGenerator<Buffer> {
      throw new Error('the source broke');
    },
  };

  it.each([true, false])('leaves nothing when it fails (compress: %s)', async (compress) => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'a.boxsnap');
    await writeFile(path, 'what was there');
    const write = async (member: typeof failing | ReturnType<typeof lying>): Promise<unknown> =>
      await writeArchive({ path, members: [member], facts, compress });
    await expect(write(lying(bytes.length - 1))).rejects.toMatchObject({ code: 'invalid_argument' });
    await expect(write(lying(bytes.length + 1))).rejects.toThrow('expected 3145729 bytes, got 3145728');
    await expect(write(failing)).rejects.toThrow('the source broke');
    const signal = AbortSignal.abort();
    const members = [bytesMember('a', bytes)];
    await expect(writeArchive({ path, members, facts, compress, signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
    expect(await readdir(directory)).toEqual(['a.boxsnap']);
    expect(await readFile(path, 'utf8')).toBe('what was there');
  });

  it('says which directory it cannot write to', async () => {
    const path = join(await temporaryDirectory(), 'gone', 'a.boxsnap');
    const written = writeArchive({ path, members: [bytesMember('a', bytes)], facts });
    await expect(written).rejects.toMatchObject({ code: 'storage_error' });
    await expect(written).rejects.toThrow(path);
  });

  it.each(['../a', 'a/b', '.a', '', 'manifest.json', 'A', 'a'.repeat(100)])(
    'refuses a member called %j',
    async (name) => {
      const path = join(await temporaryDirectory(), 'a.boxsnap');
      const written = writeArchive({ path, members: [bytesMember(name, bytes)], facts });
      await expect(written).rejects.toMatchObject({ code: 'invalid_argument' });
    },
  );

  it('reports a missing zstd as such', async () => {
    const directory = await temporaryDirectory();
    const path = process.env.PATH;
    process.env.PATH = directory;
    try {
      const members = [bytesMember('a', bytes)];
      const written = writeArchive({ path: join(directory, 'a.boxsnap'), members, facts });
      await expect(written).rejects.toMatchObject({ code: 'config_error' });
    } finally {
      process.env.PATH = path;
    }
    expect(await readdir(directory)).toEqual([]);
  });
});

describe('memory', () => {
  it('stays small for a large member', async () => {
    const directory = await temporaryDirectory();
    const out = join(directory, 'out');
    await mkdir(out);
    const chunk = Buffer.alloc(MIB, 'some text that packs well ');
    const chunks = 300;
    const member = {
      name: 'large',
      sizeBytes: chunks * MIB,
      async *open() {
        for (let i = 0; i < chunks; i += 1) yield chunk;
      },
    };
    const path = join(directory, 'a.boxsnap');
    const before = process.memoryUsage.rss();
    let peak = 0;
    const onProgress = (): void => {
      peak = Math.max(peak, process.memoryUsage.rss() - before);
    };
    await writeArchive({ path, members: [member], facts, compressionLevel: 1, onProgress });
    // 300 MiB from 30 KiB is what a bomb looks like.
    await expect(readArchive({ source: path, directory: out })).rejects.toThrow('more than 200 times');
    expect(await readdir(out)).toEqual([]);
    expect(peak).toBeLessThan(128 * MIB);
  });
});
