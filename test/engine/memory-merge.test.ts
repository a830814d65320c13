import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Box } from '../../src/api/index.js';
import { Engine } from '../../src/engine/index.js';
import {
  type LayerMap,
  type LayerPaths,
  localLayers,
  MemoryImage,
  readMap,
} from '../../src/formats/pages/index.js';
import { newHome } from '../support/home.js';
import { withDatabase } from './disk-files.js';
import { output } from './support.js';

const depth = 8;
const pieceBytes = 2 ** 20;
const pageBytes = 4096;

/** A memory as the database has it. */
interface Stored {
  readonly id: string;
  readonly layerId: string;
  readonly kind: string;
  readonly map: LayerMap;
  /** What it holds of pages, without those of other kinds. */
  readonly held: readonly string[];
}

async function pathsOf(home: string, layerId: string): Promise<LayerPaths> {
  return await withDatabase(home, async (db) => {
    const row = await db
      .selectFrom('layers')
      .select('parent_id')
      .where('id', '=', layerId)
      .executeTakeFirst();
    return { map: join(home, 'layers', row?.parent_id ?? ''), pages: join(home, 'layers', layerId) };
  });
}

/** The memory that the newest of a home is. */
async function newestMemory(home: string): Promise<Stored> {
  const { id, layer_id, kind, held } = await withDatabase(home, async (db) => {
    const row = await db
      .selectFrom('memories')
      .innerJoin('layers', 'layers.id', 'memories.layer_id')
      .select(['memories.id', 'layer_id', 'kind'])
      .orderBy('memories.created_at', 'desc')
      .executeTakeFirstOrThrow();
    const holds = await db
      .selectFrom('layer_holds')
      .innerJoin('layers', 'layers.id', 'layer_holds.layer_id')
      .select('layers.id')
      .where('holder', '=', `memory:${row.id}`)
      .where('kind', 'in', ['memory-flat', 'memory-packed'])
      .execute();
    return { ...row, held: holds.map((hold) => hold.id).sort() };
  });
  return {
    id,
    layerId: layer_id,
    kind,
    held,
    map: await readMap((await pathsOf(home, layer_id)).map, layer_id),
  };
}

/** Waits for the end of a merge, for which there is no event. */
async function merged(home: string): Promise<Stored> {
  for (;;) {
    const memory = await newestMemory(home);
    if (memory.map.generation < depth) return memory;
    await sleep(50);
  }
}

async function opened(home: string, map: LayerMap): Promise<MemoryImage> {
  const paths = new Map<string, LayerPaths>();
  for (const id of map.layers) paths.set(id, await pathsOf(home, id));
  return await MemoryImage.open(
    map,
    localLayers((id) => paths.get(id) ?? { map: '', pages: '' }),
  );
}

/** Whether two maps describe the same memory, byte for byte. */
async function isSame(home: string, first: LayerMap, second: LayerMap): Promise<boolean> {
  const images = [await opened(home, first), await opened(home, second)] as const;
  const buffers = [Buffer.alloc(pieceBytes), Buffer.alloc(pieceBytes)] as const;
  try {
    for (const [block, { sizeBytes }] of images[0].blocks.entries()) {
      for (let at = 0; at < sizeBytes; at += pieceBytes) {
        const pages = Math.min(pieceBytes, sizeBytes - at) / pageBytes;
        for (const index of [0, 1] as const) {
          buffers[index].fill(0);
          await images[index].read(
            block,
            at / pageBytes,
            pages,
            buffers[index].subarray(0, pages * pageBytes),
          );
        }
        if (!buffers[0].equals(buffers[1])) return false;
      }
    }
    return true;
  } finally {
    for (const image of images) await image.close();
  }
}

/** Pauses and resumes a box so often that its next capture is the deepest there may be. */
async function deepen(box: Box, home: string): Promise<void> {
  for (let round = 1; round < depth; round += 1) {
    await output(box, `head -c 300000 /dev/urandom > /dev/shm/data${round}`);
    await box.pause();
    expect((await newestMemory(home)).map.generation).toBe(round);
    await box.resume();
  }
  await output(box, `head -c 300000 /dev/urandom > /dev/shm/data${depth}`);
}

const sums = (box: Box): Promise<string> => output(box, 'md5sum /dev/shm/data*');

it('merges a deep memory into a new layer of the same content, and lets go of the old ones', {
  timeout: 120_000,
}, async () => {
  await using home = await newHome();
  let before: string;
  let old: Pick<Stored, 'map'>;
  let now: Stored;
  {
    await using engine = await Engine.open({ home: home.path, poolSize: 0 });
    const box = await engine.runtime().create({ image: 'tiny', name: 'b', detach: true });
    await deepen(box, home.path);
    before = await sums(box);
    await box.pause();
    now = await merged(home.path);
    const maps = now.held.map(async (id) => await readMap((await pathsOf(home.path, id)).map, id));
    const deepest = (await Promise.all(maps)).find(({ generation }) => generation === depth);
    if (!deepest) throw new Error('what was merged is gone already');
    old = { map: deepest };
    expect(now.map.generation).toBeLessThanOrEqual(1);
    // Itself, and at most what it can be mapped over.
    expect(now.map.layers.length).toBeLessThanOrEqual(2);
    expect(await isSame(home.path, old.map, now.map)).toBe(true);
    // Whoever looked the memory up before the merge can still open it.
    expect(now.held).toEqual([...new Set([...old.map.layers, ...now.map.layers])].sort());
    await engine.runtime().gc();
    expect(await isSame(home.path, old.map, now.map)).toBe(true);

    await box.resume();
    expect(await sums(box)).toBe(before);
    await box.pause();
    const next = await newestMemory(home.path);
    expect(next.map.generation).toBe(now.map.generation + 1);
    expect(next.map.layers).toEqual([next.layerId, ...now.map.layers]);
    await box.snapshot.create('merged', { memory: true });
  }
  // The time of grace ends with the engine.
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  await engine.runtime().gc();
  const files = await readdir(join(home.path, 'layers'));
  for (const id of old.map.layers.filter((it) => !now.map.layers.includes(it)))
    expect(files).not.toContain(id);
  expect(files).toContain(now.layerId);
  expect(await engine.runtime().verify()).toMatchObject({ ok: true, problems: [] });
  const box = await engine.runtime().get('b');
  if (!box) throw new Error('the box is gone');
  expect(await sums(box)).toBe(before);
  await box.remove({ force: true });
  await engine.runtime().gc();
  expect(await readdir(join(home.path, 'layers'))).not.toContain(now.layerId);
});

it('merges under a running box: what it is compared with next is the same', {
  timeout: 120_000,
}, async () => {
  await using home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().create({ image: 'tiny', name: 'b', detach: true });
  await deepen(box, home.path);
  const before = await sums(box);
  await box.snapshot.create('deep', { memory: true });
  const shallow = await merged(home.path);
  await output(box, 'rm /dev/shm/data1; echo new > /dev/shm/data2');
  const after = await sums(box);
  await box.pause();
  const { map } = await newestMemory(home.path);
  expect(map.generation).toBe(shallow.map.generation + 1);
  expect(map.layers).toContain(shallow.layerId);
  expect(map.dataBytes).toBeLessThan(16 * 2 ** 20);
  await box.resume();
  expect(await sums(box)).toBe(after);
  await box.snapshot.restore('deep', { live: true });
  expect(await sums(box)).toBe(before);
  await box.remove({ force: true });
  expect(await engine.runtime().verify()).toMatchObject({ ok: true, problems: [] });
});
