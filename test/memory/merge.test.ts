import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ExtentBuilder, ZERO, zeroExtents } from '../../src/formats/pages/extents.js';
import { createLayer, type LayerPaths } from '../../src/formats/pages/layer-files.js';
import { deriveMap, FLAT_ABOVE_BYTES, type LayerMap } from '../../src/formats/pages/layer-map.js';
import { localLayers } from '../../src/formats/pages/local-layer.js';
import { MemoryImage } from '../../src/formats/pages/memory-image.js';
import { mergeLayers, rebaseMap, writeMapOnly } from '../../src/formats/pages/merge.js';
import { PackedWriter } from '../../src/formats/pages/packed-writer.js';
import { planResume } from '../../src/formats/pages/resume.js';
import { verifyLayer } from '../../src/formats/pages/verify.js';
import { temporaryDirectory } from '../support/temporary.js';

const pageBytes = 4096;
/** Two blocks, the first of them mapped by machines; the second begins in the middle of a chunk. */
const blockPages = [40, 9] as const;

/** What one generation writes: a page of a block becomes zero, or filled with a byte. */
const write = fc.record({
  block: fc.nat(blockPages.length - 1),
  page: fc.nat(),
  byte: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 255 })),
});
const generation = fc.array(write, { maxLength: 12 });

/** Memory as plain arrays, the model, and as layers in files. */
class Generations {
  readonly #directory: string;
  readonly #plain = blockPages.map((pages) => Buffer.alloc(pages * pageBytes));
  map: LayerMap | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  paths(id: string): LayerPaths {
    return { map: join(this.#directory, `${id}.map`), pages: join(this.#directory, id) };
  }

  get plain(): Buffer {
    return Buffer.concat(this.#plain);
  }

  image(map: LayerMap): Promise<MemoryImage> {
    return MemoryImage.open(
      map,
      localLayers((id) => this.paths(id)),
    );
  }

  async content(map: LayerMap): Promise<Buffer> {
    const image = await this.image(map);
    try {
      const parts: Buffer[] = [];
      for (const [block, pages] of blockPages.entries()) {
        const target = Buffer.alloc(pages * pageBytes, 0xee);
        await image.read(block, 0, pages, target);
        parts.push(target);
      }
      return Buffer.concat(parts);
    } finally {
      await image.close();
    }
  }

  /** A flat layer of what is in memory now. */
  async begin(): Promise<LayerMap> {
    const zero: LayerMap = {
      layers: ['nothing'],
      form: 'packed',
      generation: 0,
      dataBytes: 0,
      digests: new Uint8Array(0),
      blocks: blockPages.map((pages, index) => ({
        name: `block${index}`,
        sizeBytes: pages * pageBytes,
        extents: zeroExtents(pages),
      })),
    };
    await writeMapOnly(zero, this.paths('nothing'));
    this.map = zero;
    const filled = await this.add('filled', [{ block: 0, page: 3, byte: 9 }]);
    const merged = await this.#merge(filled, zero, 'base', FLAT_ABOVE_BYTES + 1);
    this.map = merged;
    return merged;
  }

  /** One more generation: a packed layer of its writes, in address order. */
  async add(id: string, writes: readonly { block: number; page: number; byte: number }[]): Promise<LayerMap> {
    const parent = this.map as LayerMap;
    for (const { block, page, byte } of writes) {
      const at = (page % (blockPages[block] ?? 1)) * pageBytes;
      this.#plain[block]?.fill(byte, at, at + pageBytes);
    }
    this.map = await createLayer(this.paths(id), id, async (data) => {
      const writer = new PackedWriter(data, id);
      const changes: Uint32Array[] = [];
      for (const [block, pages] of blockPages.entries()) {
        const own = new ExtentBuilder();
        const written = new Set(writes.filter((one) => one.block === block).map(({ page }) => page % pages));
        for (const page of [...written].sort((a, b) => a - b)) {
          const bytes = this.#plain[block]?.subarray(page * pageBytes, (page + 1) * pageBytes);
          if (!bytes?.some((byte) => byte !== 0)) {
            own.add(page, 1, ZERO, 0);
            continue;
          }
          own.add(page, 1, 0, writer.pages);
          await writer.append(bytes, 0, pageBytes);
        }
        changes.push(own.finish());
      }
      return deriveMap(parent, { layerId: id, ...(await writer.finish()), changes });
    });
    return this.map;
  }

  async #merge(map: LayerMap, base: LayerMap, layerId: string, differenceBytes: number): Promise<LayerMap> {
    const image = await this.image(map);
    try {
      return await mergeLayers({ image, base, differenceBytes, paths: this.paths(layerId), layerId });
    } finally {
      await image.close();
    }
  }

  merge(map: LayerMap, base: LayerMap, layerId: string, form: 'packed' | 'flat'): Promise<LayerMap> {
    const { streamBytes } = planResume(map, [base]);
    return this.#merge(map, base, layerId, form === 'flat' ? FLAT_ABOVE_BYTES + 1 : streamBytes);
  }
}

describe('merge', () => {
  it.each(['packed', 'flat'] as const)(
    'of any generations into a %s layer is the same memory, and so is what came later on top of it',
    async (form) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(generation, { minLength: 1, maxLength: 4 }),
          fc.array(generation, { maxLength: 3 }),
          async (before, after) => {
            const memory = new Generations(await temporaryDirectory());
            const base = await memory.begin();
            for (const [index, writes] of before.entries()) await memory.add(`before${index}`, writes);
            const from = memory.map as LayerMap;
            const expected = Buffer.from(memory.plain);
            for (const [index, writes] of after.entries()) await memory.add(`after${index}`, writes);
            const target = memory.map as LayerMap;

            const merged = await memory.merge(from, base, 'merged', form);
            expect(merged.form).toBe(form);
            expect(merged.generation).toBe(form === 'flat' ? 0 : 1);
            expect((await memory.content(merged)).equals(expected)).toBe(true);
            await verifyLayer(memory.paths('merged'), 'merged');

            const rebased = rebaseMap(target, from, merged, 'rebased');
            await writeMapOnly(rebased, memory.paths('rebased'));
            await verifyLayer(memory.paths('rebased'), 'rebased');
            expect((await memory.content(rebased)).equals(memory.plain)).toBe(true);
            expect(rebased.layers.filter((id) => id.startsWith('before'))).toEqual([]);
            expect(rebased.generation).toBe(merged.generation + 1 + after.length);
          },
        ),
        { numRuns: 40 },
      );
    },
  );

  it('copies each page once, and nothing that the base has', async () => {
    const memory = new Generations(await temporaryDirectory());
    const base = await memory.begin();
    await memory.add('one', [{ block: 0, page: 7, byte: 1 }]);
    await memory.add('two', [
      { block: 0, page: 7, byte: 2 },
      { block: 1, page: 2, byte: 3 },
    ]);
    const merged = await memory.merge(memory.map as LayerMap, base, 'merged', 'packed');
    expect(merged.dataBytes).toBe(2 * pageBytes);
    expect(merged.layers).toEqual(['merged', 'base']);
  });

  it('of a damaged layer is an integrity error, and leaves nothing', async () => {
    const memory = new Generations(await temporaryDirectory());
    const base = await memory.begin();
    const map = await memory.add('one', [{ block: 0, page: 7, byte: 1 }]);
    const file = await open(memory.paths('one').pages, 'r+');
    await file.write(createHash('sha256').digest(), 0, 32, 100);
    await file.close();
    await expect(memory.merge(map, base, 'merged', 'packed')).rejects.toMatchObject({ code: 'integrity' });
    await expect(open(memory.paths('merged').map)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(open(memory.paths('merged').pages)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
