import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import { writeArchive } from '../../src/formats/archive/index.js';
import { createOverlay, flattenStream, openChain } from '../../src/formats/qcow2/index.js';
import { diskChain, layerFiles, writeBlocks } from './disk-files.js';
import { failureOf, TestEngine } from './support.js';
import { tightHome } from './tight-disk.js';

const run = promisify(execFile);
const engine = new TestEngine();
let box: Box;
let directory: string;
let archive: string;

beforeAll(async () => {
  box = await engine.runtime.create({ image: 'tiny', name: 'b', labels: { kept: 'yes' } });
  await box.stop();
  await writeBlocks(engine.home, box.id, new Map([[0, 1]]));
  await box.snapshot.create('s');
  directory = await mkdtemp(join(engine.home, 'refused-'));
  archive = await box.export(join(directory, 'b.boxsnap'));
});

/** The home's layers after everything that nobody needs is gone. */
async function kept(): Promise<string[]> {
  await engine.runtime.gc();
  return await layerFiles(engine.home);
}

describe('names', () => {
  it('that are taken are refused with one code, and nothing is left', async () => {
    const before = await kept();
    for (const call of [
      () => box.clone('b'),
      () => box.clone('b', { fromSnapshot: 's' }),
      () => engine.runtime.import(archive, { name: 'b' }),
      () => box.snapshot.create('s'),
      () => engine.runtime.create({ image: 'tiny', name: 'b' }),
    ]) {
      expect(await failureOf(call())).toMatchObject({ code: 'already_exists' });
    }
    expect(await kept()).toEqual(before);
  });

  it('given to several at once are given to one', async () => {
    const clones = await Promise.allSettled(
      Array.from({ length: 5 }, () => box.clone('one', { fromSnapshot: 's' })),
    );
    const made = clones.flatMap((it) => (it.status === 'fulfilled' ? [it.value] : []));
    expect(made).toHaveLength(1);
    for (const it of clones)
      if (it.status === 'rejected') expect(it.reason).toMatchObject({ code: 'already_exists' });
    await made[0]?.remove();
  });

  it.each(['', '.hidden', 'a/b', 'a\\b', 'a\0b', 'ä'.repeat(128)])(
    '%j is none for a snapshot',
    async (name) => {
      expect(await failureOf(box.snapshot.create(name))).toMatchObject({ code: 'invalid_argument' });
    },
  );

  it('of 255 bytes are taken', async () => {
    const name = `${'ä'.repeat(127)}x`;
    await box.snapshot.create(name);
    expect((await box.snapshot.get(name))?.name).toBe(name);
    await box.snapshot.remove(name);
  });
});

describe('snapshots', () => {
  it('that are not there are not found', async () => {
    expect(await box.snapshot.get('none')).toBeNull();
    for (const call of [
      () => box.snapshot.restore('none'),
      () => box.snapshot.remove('none'),
      () => box.clone(undefined, { fromSnapshot: 'none' }),
    ]) {
      expect(await failureOf(call())).toMatchObject({ code: 'not_found' });
    }
  });

  it('are cloned whole or not at all while they are being removed', async () => {
    for (let i = 0; i < 10; i += 1) {
      await box.snapshot.create('going');
      const clones = Array.from({ length: 4 }, () => box.clone(undefined, { fromSnapshot: 'going' }));
      const [removal, ...results] = await Promise.allSettled([box.snapshot.remove('going'), ...clones]);
      expect(removal.status).toBe('fulfilled');
      await engine.runtime.gc();
      for (const it of results) {
        if (it.status === 'rejected') expect(it.reason).toMatchObject({ code: 'not_found' });
        else await it.value.remove();
      }
    }
    expect(await engine.runtime.verify()).toMatchObject({ ok: true, problems: [] });
  });

  it('are taken, restored and removed at once without a deadlock', async () => {
    const work = Array.from({ length: 8 }, async (_, i) => {
      await box.snapshot.create(`p${i}`);
      await box.snapshot.restore(`p${i}`);
      const clone = await box.clone();
      await box.snapshot.remove(`p${i}`);
      await clone.remove();
    });
    await Promise.all(work);
    expect((await box.snapshot.list()).map(({ name }) => name)).toEqual(['s']);
    expect((await box.info()).operation).toBeNull();
  });
});

describe('archives', () => {
  /** Imports what a test made of the archive; it must fail with the code, and leave nothing. */
  async function refused(bytes: Uint8Array | string, code: string): Promise<string> {
    const before = await kept();
    const path = typeof bytes === 'string' ? bytes : join(directory, 'bad.boxsnap');
    if (typeof bytes !== 'string') await writeFile(path, bytes);
    const failure = await failureOf(engine.runtime.import(path, { name: 'never' }));
    expect(failure).toMatchObject({ code });
    expect(await engine.runtime.get('never')).toBeNull();
    expect(await kept()).toEqual(before);
    return failure.message;
  }

  it('with a byte changed, cut short, or that are none, are refused', { timeout: 120_000 }, async () => {
    const good = await readFile(archive);
    const places = [0, 1, 4, 40, 400, ...[0.2, 0.5, 0.9].map((part) => Math.floor(good.length * part))];
    for (const at of [...places, good.length - 20, good.length - 1]) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 0x10;
      await refused(bad, 'archive_invalid');
    }
    for (const length of [0, 1, 100, 5000, good.length - 1])
      await refused(good.subarray(0, length), 'archive_invalid');
    await refused(Buffer.concat([good, Buffer.from('more')]), 'archive_invalid');
    await refused(Buffer.from('this is no archive'.repeat(100)), 'archive_invalid');
    await refused(join(directory, 'nowhere.boxsnap'), 'not_found');
  });

  it.each([
    ['more processors than allowed', { cpus: 99, memoryMiB: 512, diskSizeGb: 1 }, {}, 'invalid_argument'],
    ['a disk larger than it says', { cpus: 1, memoryMiB: 512, diskSizeGb: 1 }, {}, 'archive_invalid', 2],
    [
      'options of a wrong type',
      { cpus: 1, memoryMiB: 512, diskSizeGb: 1 },
      { config: { env: 3 } },
      'archive_invalid',
    ],
    [
      'a bad environment',
      { cpus: 1, memoryMiB: 512, diskSizeGb: 1 },
      { config: { env: { 'a=b': 'c' } } },
      'invalid_argument',
    ],
  ] as const)('with %s are refused', async (_, shape, options, code, sizeGb?: number) => {
    const image = join(directory, 'image');
    await rm(image, { force: true });
    await createOverlay({ path: image, virtualSizeBytes: (sizeGb ?? 1) * 2 ** 30 });
    await using chain = await openChain({ directory, top: 'image' });
    const disk = await flattenStream(chain);
    const path = join(directory, 'made.boxsnap');
    const members = ['guest-rootfs.qcow2', 'disk.qcow2'].map((name) => ({ name, ...disk }));
    await writeArchive({ path, facts: { shape, options }, members });
    await refused(path, code);
  });

  it('without their disk are refused', async () => {
    const path = join(directory, 'half.boxsnap');
    const image = join(directory, 'small');
    await createOverlay({ path: image, virtualSizeBytes: 2 ** 20 });
    await using chain = await openChain({ directory, top: 'small' });
    const members = [{ name: 'other.qcow2', ...(await flattenStream(chain)) }];
    await writeArchive({ path, facts: { shape: { cpus: 1, memoryMiB: 512, diskSizeGb: 1 } }, members });
    expect(await refused(path, 'archive_invalid')).toContain('disk.qcow2');
  });

  it('are given up when the call is cancelled, both ways', async () => {
    const before = await kept();
    for (const signal of [AbortSignal.abort(), AbortSignal.timeout(20)]) {
      const far = join(directory, 'cancelled.boxsnap');
      const calls = [box.export(far, { signal }), engine.runtime.import(archive, { name: 'never', signal })];
      for (const it of await Promise.allSettled(calls)) {
        if (it.status === 'rejected') expect(it.reason).toMatchObject({ code: 'cancelled' });
      }
      if (await engine.runtime.get('never')) await engine.runtime.remove('never');
      await rm(far, { force: true });
    }
    expect((await run('ls', [directory])).stdout).not.toContain('partial');
    expect(await kept()).toEqual(before);
  });

  it('cannot be written where nothing may be', async () => {
    expect(await failureOf(box.export('/proc/b.boxsnap'))).toMatchObject({ code: 'storage_error' });
    expect(await failureOf(box.export(''))).toMatchObject({ code: 'invalid_argument' });
  });

  it('without metadata say nothing of the box', async () => {
    const bare = await box.export(join(directory, 'bare.boxsnap'), {
      includeMetadata: false,
      compress: false,
    });
    const text = (await readFile(bare)).subarray(0, 8192).toString('latin1');
    expect(text).not.toContain('tiny');
    expect(text).not.toContain('kept');
    const made = await engine.runtime.import(bare);
    expect(await made.info()).toMatchObject({ name: null, labels: {}, image: '' });
    await made.remove();
  });
});

it('finds what changed in a file behind its back', async () => {
  const clone = await box.clone('broken');
  expect(await engine.runtime.verify()).toMatchObject({ ok: true });
  const [, layer = ''] = await diskChain(engine.home, clone.id);
  const path = join(engine.home, 'layers', layer);
  const good = await readFile(path);
  const bad = Buffer.from(good);
  bad[bad.length - 100] = (bad[bad.length - 100] ?? 0) ^ 1;
  await writeFile(path, bad);
  const found = await engine.runtime.verify();
  expect(found.ok).toBe(false);
  expect(found.problems).toEqual([{ what: layer, problem: expect.stringContaining('its content changed') }]);
  await rm(path);
  expect((await engine.runtime.verify()).problems).toContainEqual({
    what: layer,
    problem: 'its file is missing',
  });
  await writeFile(path, good, { mode: 0o444 });
  expect(await engine.runtime.verify()).toMatchObject({ ok: true });
  await clone.remove();
});

it('fails with one code when the disk is full, and goes on when there is room', {
  timeout: 120_000,
}, async () => {
  await using small = await tightHome(900);
  await using tight = await Engine.open({ home: small.path, poolSize: 0 });
  const runtime = tight.runtime();
  const home = await runtime.import(archive, { name: 'full' });
  const before = await layerFiles(small.path);
  await copyFile(archive, join(small.path, 'a.boxsnap'));
  for (const leftKiB of [2000, 900, 300, 100, 0]) {
    await small.fill(leftKiB);
    for (const call of [
      () => runtime.import(join(small.path, 'a.boxsnap')),
      () => home.clone(undefined, { cow: false }),
      () => home.export(join(small.path, 'out.boxsnap'), { compress: false }),
    ]) {
      const outcome = await call().catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'disk_full' });
      else if (typeof outcome === 'object' && outcome && 'remove' in outcome) await (outcome as Box).remove();
    }
  }
  await small.empty();
  await rm(join(small.path, 'out.boxsnap'), { force: true });
  await runtime.gc();
  expect((await layerFiles(small.path)).filter((id) => !before.includes(id))).toEqual([]);
  await home.snapshot.create('after');
  expect(await runtime.verify()).toMatchObject({ ok: true, problems: [] });
});
