import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isCryoboxError, messageOf } from '../../src/errors.js';
import { readArchive, writeArchive } from '../../src/formats/archive/index.js';
import { createOverlay } from '../../src/formats/qcow2/index.js';
import { temporaryDirectory } from '../disk/support.js';
import { packBoxlite } from './boxlite-maker.js';
import { packHoles } from './sparse-maker.js';
import { bytesMember, diskMember, facts, makeDisk, tool } from './support.js';
import { zstdTar } from './tar-maker.js';

const KIB = 1024;

/** Reads an archive that must be refused; returns the message, and checks that nothing is left. */
async function refusal(directory: string, bytes: Buffer, maxTotalBytes?: number): Promise<string> {
  const path = join(directory, 'hostile.boxsnap');
  const out = join(directory, 'out');
  await mkdir(out, { recursive: true });
  await writeFile(path, bytes);
  let message = 'accepted';
  try {
    await readArchive({ source: path, directory: out, maxTotalBytes });
  } catch (error) {
    const known = isCryoboxError(error, 'archive_invalid') || isCryoboxError(error, 'payload_too_large');
    message = known ? error.message : `not a refusal: ${messageOf(error)}`;
  }
  if (message !== 'accepted') expect(await readdir(out)).toEqual([]);
  // Where the host unpacked it is not the caller's business.
  expect(message).not.toContain(directory);
  return message;
}

async function sealedArchive(directory: string, compress: boolean): Promise<Buffer> {
  await makeDisk(directory, 'box', 100 * KIB);
  const path = join(directory, 'good.boxsnap');
  const members = [await diskMember(directory, 'box', 'disk.qcow2'), bytesMember('text', Buffer.from('hi'))];
  await writeArchive({ path, members, facts, compress });
  return await readFile(path);
}

/** Positions to damage: all of the start and the end, and some between. */
function* positions(length: number, edge: number, between: number): Generator<number> {
  for (let at = 0; at < edge; at += 1) yield at;
  for (let i = 0; i < between; i += 1) yield edge + Math.floor(((length - 2 * edge) * i) / between);
  for (let at = length - edge; at < length; at += 1) yield at;
}

describe('one changed byte anywhere', () => {
  it.each([
    [true, 40, 400],
    [false, 150, 500],
  ] as const)('is refused (compress: %s)', async (compress, edge, between) => {
    const directory = await temporaryDirectory();
    const good = await sealedArchive(directory, compress);
    const flips = [0x01, 0x10, 0x80, 0xff];
    let tried = 0;
    for (const at of positions(good.length, edge, between)) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ (flips[tried % flips.length] ?? 1);
      tried += 1;
      expect(await refusal(directory, bad), `byte ${at} of ${good.length}`).toMatch(/^archive: /);
    }
    expect(tried).toBe(2 * edge + between);
  });

  it.each([true, false])('is refused when it is missing or too much (compress: %s)', async (compress) => {
    const directory = await temporaryDirectory();
    const good = await sealedArchive(directory, compress);
    for (const length of [
      0,
      1,
      3,
      4,
      19,
      20,
      511,
      512,
      1024,
      good.length >> 1,
      good.length - 21,
      good.length - 20,
      good.length - 1,
    ]) {
      expect(await refusal(directory, good.subarray(0, length)), `${length} bytes`).toMatch(/^archive: /);
    }
    for (const extra of [Buffer.alloc(1), Buffer.alloc(512), Buffer.from('garbage'), good]) {
      expect(await refusal(directory, Buffer.concat([good, extra]))).toMatch(/^archive: /);
    }
  });
});

describe('hostile archives', () => {
  const disk = Buffer.alloc(10, 1);
  const good = { name: 'a', bytes: disk };

  it.each([
    ['no manifest', { manifest: null, members: [good] }, 'manifest.json must come first'],
    ['a manifest that is no JSON', { manifest: '{', members: [] }, 'not JSON'],
    ['a manifest of another version', { manifest: { version: 7 }, members: [] }, 'version 7 is not one of'],
    ['a manifest of version 2', { manifest: { version: 2 }, members: [] }, 'version 2 is not one of'],
    ['a manifest without version', { manifest: [], members: [] }, 'version undefined is not'],
    ['an unknown manifest field', { fields: { secrets: {} }, members: [good] }, 'secrets'],
    ['a manifest without members', { members: [] }, 'members'],
    ['a member twice', { members: [good, good] }, 'lists a member twice'],
    ['a member that climbs', { members: [{ name: '../a', bytes: disk }] }, 'not a plain member name'],
    ['an absolute member', { members: [{ name: '/etc/x', bytes: disk }] }, 'not a plain member name'],
    [
      'another order',
      { members: [good, { name: 'b', bytes: disk }], order: ['b', 'a'] },
      'member a was expected',
    ],
    ['a missing member', { members: [good, { name: 'b', bytes: disk }], order: ['a'] }, 'got the end'],
    ['one more member', { members: [good], order: ['a', 'a'] }, 'more members than'],
    [
      'a climbing name in the tar',
      { members: [{ ...good, tarName: '../a' }] },
      'member a was expected, got "../a"',
    ],
    ['a symbolic link', { members: [{ ...good, type: '2' }] }, 'type "2"'],
    ['a hard link', { members: [{ ...good, type: '1' }] }, 'type "1"'],
    ['a device', { members: [{ ...good, type: '3' }] }, 'type "3"'],
    ['a directory', { members: [{ ...good, type: '5' }] }, 'type "5"'],
    ['an extended header', { members: [{ ...good, type: 'x' }] }, 'type "x"'],
    ['another size', { members: [{ ...good, sizeBytes: 11 }] }, 'has 10 bytes, its manifest says 11'],
    ['another hash', { members: [{ ...good, sha256: '0'.repeat(64) }] }, 'does not have the hash'],
    ['no seal', { members: [good] }, 'its seal is missing'],
    ['data after the end', { members: [good], after: Buffer.alloc(512) }, 'something follows its end'],
  ] as const)('are refused: %s', async (_what, content, message) => {
    const directory = await temporaryDirectory();
    expect(await refusal(directory, await zstdTar(directory, content))).toContain(message);
  });

  it('are refused: members over the limit', async () => {
    const directory = await temporaryDirectory();
    const bytes = await sealedArchive(directory, true);
    expect(await refusal(directory, bytes, 1000)).toContain('exceeds the limit of 1000');
  });

  it('are refused: a disk with a backing file, or that is damaged', async () => {
    const directory = await temporaryDirectory();
    const overlay = join(directory, 'overlay');
    await createOverlay({ path: overlay, virtualSizeBytes: 65536, backing: { name: 'x', format: 'raw' } });
    const write = async (bytes: Buffer): Promise<Buffer> => {
      const path = join(directory, 'a.boxsnap');
      await writeArchive({ path, members: [bytesMember('disk.qcow2', bytes)], facts });
      return await readFile(path);
    };
    const withBacking = await readFile(overlay);
    expect(await refusal(directory, await write(withBacking))).toContain('has a backing file');
    await makeDisk(directory, 'box', 100 * KIB);
    const damaged = await readFile(join(directory, 'box'));
    damaged.fill(0, 2 * 65536, 2 * 65536 + 64);
    expect(await refusal(directory, await write(damaged))).toContain('is damaged');
    expect(await refusal(directory, await write(Buffer.from('no disk')))).toContain('not a qcow2 image');
  });
});

describe('reading', () => {
  it('can be cancelled while the source is silent', async () => {
    const directory = await temporaryDirectory();
    const bytes = await sealedArchive(directory, true);
    const out = await temporaryDirectory();
    const cancel = new AbortController();
    async function* silent(): AsyncGenerator<Buffer> {
      yield bytes.subarray(0, bytes.length >> 1);
      setImmediate(() => cancel.abort());
      await new Promise(() => undefined);
    }
    const read = readArchive({ source: silent(), directory: out, signal: cancel.signal });
    await expect(read).rejects.toMatchObject({ code: 'cancelled' });
    expect(await readdir(out)).toEqual([]);
  });

  it('reports a missing archive, and never overwrites', async () => {
    const directory = await temporaryDirectory();
    const missing = readArchive({ source: join(directory, 'none'), directory });
    await expect(missing).rejects.toMatchObject({ code: 'not_found' });
    const source = join(directory, 'good.boxsnap');
    await sealedArchive(directory, true);
    const out = await temporaryDirectory();
    await writeFile(join(out, 'text'), 'precious');
    await expect(readArchive({ source, directory: out })).rejects.toMatchObject({ code: 'storage_error' });
    expect(await readFile(join(out, 'text'), 'utf8')).toBe('precious');
    await rm(join(out, 'text'));
    await expect(readArchive({ source, directory: out })).resolves.toBeTruthy();
  });
});

describe('an archive of holes', () => {
  it('is let go of while it is read', async () => {
    const directory = await temporaryDirectory();
    const source = await packHoles(directory, { sizeBytes: 15 * 2 ** 30 });
    const out = join(directory, 'out');
    await mkdir(out);
    // In the time that all of it takes, if nobody else had a turn.
    const signal = AbortSignal.timeout(100);
    await expect(readArchive({ source, directory: out, signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
    expect(await readdir(out)).toEqual([]);
  });

  it.each([
    [
      'beyond the disk of its box',
      { sizeBytes: 20 * 2 ** 30, diskSizeGb: 10 },
      /larger than the \d+ of a box/,
    ],
    ['beyond any disk of its length', { sizeBytes: 2 ** 40 }, /exceeds the limit/],
  ])('%s is refused before it is read', async (_what, options, message) => {
    const directory = await temporaryDirectory();
    const bytes = await readFile(await packHoles(directory, options));
    expect(await refusal(directory, bytes)).toMatch(message);
  });

  it('that goes on with zeros after its end is refused', async () => {
    const directory = await temporaryDirectory();
    await makeDisk(directory, 'disk.qcow2', 100 * KIB);
    const good = await readFile(await packBoxlite(directory));
    expect(await refusal(directory, good)).toBe('accepted');
    await rm(join(directory, 'out'), { recursive: true });
    await tool(directory, 'truncate', '-s', '+2M', 'made.tar');
    await tool(directory, 'zstd', '-qf', 'made.tar', '-o', 'made.boxlite');
    expect(await refusal(directory, await readFile(join(directory, 'made.boxlite')))).toMatch(
      /follows its end/,
    );
  });
});
