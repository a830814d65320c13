import { randomBytes } from 'node:crypto';
import { open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { EXTENT_WORDS, ExtentBuilder, ZERO } from '../../src/formats/pages/extents.js';
import { writeFlat } from '../../src/formats/pages/flat-writer.js';
import { createLayer, type LayerPaths } from '../../src/formats/pages/layer-files.js';
import { deriveMap, type LayerMap } from '../../src/formats/pages/layer-map.js';
import { localLayers } from '../../src/formats/pages/local-layer.js';
import { decodeMap, encodeMap } from '../../src/formats/pages/map-file.js';
import { MemoryImage } from '../../src/formats/pages/memory-image.js';
import { PackedWriter } from '../../src/formats/pages/packed-writer.js';
import { adoptPortable, portableLayer, portableLimits } from '../../src/formats/pages/portable.js';
import type { PageSource } from '../../src/formats/qemu-stream/page-source.js';
import { temporaryDirectory } from '../support/temporary.js';

const page = 4096;
const ramBytes = 900 * page;
const romBytes = 3 * page;

/** Two blocks, every third run of pages random, the rest zero. */
function content(): Buffer[] {
  return [ramBytes, romBytes].map((bytes) => {
    const block = Buffer.alloc(bytes);
    for (let at = 0; at < bytes; at += 30 * page)
      randomBytes(Math.min(11 * page, bytes - at)).copy(block, at);
    return block;
  });
}

const layer = (directory: string, id: string): LayerPaths => ({
  map: join(directory, `${id}.map`),
  pages: join(directory, id),
});

/** A memory of two generations: a flat layer, and a packed one with changes over it. */
async function twoGenerations(
  directory: string,
  [ram = Buffer.alloc(0), rom]: Buffer[],
): Promise<MemoryImage> {
  const source: PageSource = {
    blocks: [
      { name: 'mem', sizeBytes: ramBytes },
      { name: 'rom', sizeBytes: romBytes },
    ],
    dataRanges: (_block, startPage, pageCount) => [{ startPage, pageCount }],
    read: async (block, start, count, target) => {
      (block === 0 ? ram : rom)?.copy(target, 0, start * page, (start + count) * page);
    },
  };
  const base = await createLayer(layer(directory, 'base'), 'base', (data) =>
    writeFlat({ data, layerId: 'base', source }),
  );
  randomBytes(5 * page).copy(ram, 400 * page);
  ram.fill(0, 0, 2 * page);
  const top = await createLayer(layer(directory, 'top'), 'top', async (data) => {
    const writer = new PackedWriter(data, 'top');
    await writer.append(ram, 400 * page, 405 * page);
    const changes = new ExtentBuilder();
    changes.add(0, 2, ZERO, 0);
    changes.add(400, 5, 0, 0);
    const written = await writer.finish();
    return deriveMap(base, { layerId: 'top', ...written, changes: [changes.finish(), new Uint32Array(0)] });
  });
  return await MemoryImage.open(
    top,
    localLayers((id) => layer(directory, id)),
  );
}

let directory: string;
let expected: Buffer[];
let sent: LayerPaths;

beforeEach(async () => {
  directory = await temporaryDirectory();
  expected = content();
  const image = await twoGenerations(directory, expected);
  const portable = portableLayer(image);
  sent = layer(directory, 'sent');
  const file = await open(sent.pages, 'wx');
  for await (const piece of portable.pages()) await file.write(piece);
  await file.close();
  await writeFile(sent.map, portable.map());
  expect((await stat(sent.pages)).size).toBe(portable.pagesBytes);
  expect((await stat(sent.map)).size).toBe(portable.mapBytes);
  const limits = portableLimits(ramBytes);
  expect(portable.pagesBytes).toBeLessThan(limits.pagesBytes);
  expect(portable.mapBytes).toBeLessThan(limits.mapBytes);
  await image.close();
});

const adopt = (options: { ramBytes?: number; signal?: AbortSignal } = {}): Promise<LayerMap> =>
  adoptPortable({ from: sent, to: layer(directory, 'made'), layerId: 'made', ramBytes, ...options });

async function refused(words: string, options: { ramBytes?: number } = {}): Promise<void> {
  const failure = adopt(options);
  await expect(failure).rejects.toMatchObject({ code: 'integrity' });
  await expect(failure).rejects.toThrow(words);
  expect((await readdir(directory)).filter((name) => name.startsWith('made'))).toEqual([]);
}

/** Rewrites the map that travels. */
async function remap(change: (map: LayerMap) => Partial<LayerMap>): Promise<void> {
  const map = decodeMap(await readFile(sent.map), 'sent');
  await writeFile(sent.map, encodeMap({ ...map, ...change(map) }));
}

describe('portable memory', () => {
  it('holds all generations, no zero page, and becomes a flat layer with the same content', async () => {
    const data = expected.flatMap((block) =>
      Array.from({ length: block.length / page }, (_, i) => block.subarray(i * page, (i + 1) * page)).filter(
        (it) => it.some((byte) => byte !== 0),
      ),
    );
    expect((await readFile(sent.pages)).equals(Buffer.concat(data))).toBe(true);
    const map = await adopt();
    expect(map).toMatchObject({ layers: ['made'], form: 'flat', generation: 0 });
    const made = layer(directory, 'made');
    expect((await readFile(made.pages)).equals(Buffer.concat(expected))).toBe(true);
  });

  it('is refused when its data is damaged, short or long', async () => {
    const good = await readFile(sent.pages);
    for (const at of [0, 1_500_000, good.length - 1].filter((it) => it < good.length)) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 1;
      await writeFile(sent.pages, bad);
      await refused('does not match its SHA-256');
    }
    await writeFile(sent.pages, good);
    await truncate(sent.pages, good.length - page);
    await refused('bytes of data');
    await writeFile(sent.pages, Buffer.concat([good, Buffer.alloc(page)]));
    await refused('bytes of data');
  });

  it('is refused with a map that is damaged or none', async () => {
    const good = await readFile(sent.map);
    for (const at of [0, 8, 30, 60, 200, good.length - 1]) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 1;
      await writeFile(sent.map, bad);
      await refused('memory map');
    }
    await writeFile(sent.map, good.subarray(0, 100));
    await refused('memory map');
  });

  it('is refused when it is of another machine, needs other layers, or uses data twice', async () => {
    await refused('bytes of RAM', { ramBytes: ramBytes * 2 });
    await remap(({ layers }) => ({ layers: [...layers, 'lay_of_somebody'] }));
    await refused('needs no other');
    await remap(() => ({ layers: ['portable'], generation: 3 }));
    await refused('needs no other');
    await remap(() => ({ generation: 0, layers: ['somebody'] }));
    await refused("is layer somebody's");
    await remap(({ blocks }) => ({
      layers: ['portable'],
      blocks: blocks.map((block) => {
        const extents = block.extents.slice();
        for (let at = 0; at < extents.length; at += EXTENT_WORDS)
          if (extents[at + 2] !== ZERO) extents[at + 3] = 0;
        return { ...block, extents };
      }),
    }));
    await refused('of the data, got 0');
  });

  it('is refused with more beside the RAM than a machine has', async () => {
    const sizeBytes = 256 * 2 ** 20;
    const huge = { name: 'huge', sizeBytes, extents: Uint32Array.of(0, sizeBytes / page, ZERO, 0) };
    await remap(({ blocks }) => ({ blocks: [...blocks, huge] }));
    await refused('beside the RAM');
  });

  it('is given up when the call is cancelled', async () => {
    await expect(adopt({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'cancelled' });
    expect((await readdir(directory)).filter((name) => name.startsWith('made'))).toEqual([]);
  });
});
