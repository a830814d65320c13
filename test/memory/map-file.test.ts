import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ZERO, zeroExtents } from '../../src/formats/pages/extents.js';
import {
  CHUNK_BYTES,
  deriveMap,
  type LayerMap,
  MAX_GENERATION,
  MAX_LAYERS,
} from '../../src/formats/pages/layer-map.js';
import { decodeMap, encodeMap, readMap } from '../../src/formats/pages/map-file.js';
import { planResume, wantsMerge } from '../../src/formats/pages/resume.js';
import { temporaryDirectory } from '../support/temporary.js';

const pages = 600;
const sizeBytes = pages * 4096;

const flat: LayerMap = {
  layers: ['lay_base'],
  form: 'flat',
  generation: 0,
  dataBytes: sizeBytes + 8192,
  blocks: [
    { name: 'mem', sizeBytes, extents: Uint32Array.of(0, 100, 0, 0, 100, 500, ZERO, 0) },
    { name: '/rom@etc/acpi/tables', sizeBytes: 8192, extents: Uint32Array.of(0, 2, 0, pages) },
  ],
  digests: Buffer.alloc(32 * Math.ceil((sizeBytes + 8192) / CHUNK_BYTES), 7),
};

function child(parent: LayerMap, layerId: string, ...changes: number[]): LayerMap {
  return deriveMap(parent, {
    layerId,
    dataBytes: 3 * 4096,
    digests: Buffer.alloc(32, 1),
    changes: [Uint32Array.from(changes), new Uint32Array(0)],
  });
}

describe('map file', () => {
  it('round-trips a map of two generations', () => {
    const map = child(flat, 'lay_1', 10, 3, 0, 0, 50, 5, ZERO, 0);
    expect(map.layers).toEqual(['lay_1', 'lay_base']);
    expect(decodeMap(encodeMap(map), 'x')).toEqual({ ...map, digests: Buffer.from(map.digests) });
  });

  it('leaves out a layer nothing refers to any more', () => {
    const first = child(flat, 'lay_1', 0, 3, 0, 0);
    const second = child(first, 'lay_2', 0, 3, 0, 0);
    expect(second.layers).toEqual(['lay_2', 'lay_base']);
    expect(second.generation).toBe(2);
  });

  it('asks for a merge at the bound of depth, and where much would be streamed', () => {
    const wants = (map: LayerMap): boolean => wantsMerge(map, planResume(map, [flat]));
    let map = flat;
    for (let i = 1; i < MAX_GENERATION; i += 1) map = child(map, `lay_${i}`, i, 3, 0, 0);
    expect(wants(map)).toBe(false);
    expect(wantsMerge(map, { baseLayerId: 'lay_base', base: flat, extents: [], streamBytes: 2 ** 27 })).toBe(
      true,
    );
    expect(wants(child(map, 'lay_last', 0, 3, 0, 0))).toBe(true);
  });

  it('holds more generations than that, to its limit', () => {
    let map = flat;
    for (let i = 1; i < MAX_LAYERS; i += 1) map = child(map, `lay_${i}`, i * 3, 3, 0, 0);
    expect(decodeMap(encodeMap(map), 'x').layers).toHaveLength(MAX_LAYERS);
    expect(() => encodeMap(child(map, 'lay_more', 300, 3, 0, 0))).toThrow('expected 1 to 64 layers, got 65');
  });

  it.each([
    [
      'a gap',
      Uint32Array.of(0, 100, 0, 0, 101, 499, ZERO, 0),
      'expected an extent at page 100, got one at 101',
    ],
    [
      'an overlap',
      Uint32Array.of(0, 100, 0, 0, 99, 501, ZERO, 0),
      'expected an extent at page 100, got one at 99',
    ],
    ['a short list', Uint32Array.of(0, 599, ZERO, 0), 'expected extents over 600 pages, got 599'],
    ['an unknown layer', Uint32Array.of(0, 600, 1, 0), 'the extent at page 0 names no listed layer'],
    ['data behind the end', Uint32Array.of(0, 600, 0, 3), 'the extent at page 0 ends behind the data file'],
    ['an empty extent', Uint32Array.of(0, 0, ZERO, 0, 0, 600, ZERO, 0), 'the extent at page 0 has no pages'],
  ])('is not written with %s', (_, extents, message) => {
    const block = { name: 'mem', sizeBytes, extents };
    expect(() => encodeMap({ ...flat, blocks: [block] })).toThrow(message);
  });

  it('any flipped bit or cut is an integrity error', () => {
    const bytes = encodeMap(child(flat, 'lay_1', 10, 3, 0, 0));
    fc.assert(
      fc.property(fc.nat(bytes.length * 8 - 1), (bit) => {
        const damaged = Buffer.from(bytes);
        damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(() => decodeMap(damaged, 'x')).toThrow(expect.objectContaining({ code: 'integrity' }));
      }),
    );
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), (length) => {
        expect(() => decodeMap(bytes.subarray(0, length), 'x')).toThrow(
          expect.objectContaining({ code: 'integrity' }),
        );
      }),
    );
  });

  it('is refused under another id, and when it is missing', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'memory.map');
    await writeFile(path, encodeMap(flat));
    await expect(readMap(path, 'lay_base')).resolves.toMatchObject({ generation: 0 });
    await expect(readMap(path, 'lay_other')).rejects.toThrow("the file is layer lay_base's");
    await expect(readMap(join(directory, 'none'), 'lay_base')).rejects.toMatchObject({ code: 'integrity' });
  });

  it('a flipped word with a right checksum is still refused', async () => {
    const bytes = encodeMap(flat);
    const { createHash } = await import('node:crypto');
    const body = Buffer.from(bytes.subarray(0, -32));
    body.writeUInt32LE(200, 48 + 40 + 32 + 4);
    const forged = Buffer.concat([body, createHash('sha256').update(body).digest()]);
    const directory = await temporaryDirectory();
    await writeFile(join(directory, 'm'), forged);
    await expect(readMap(join(directory, 'm'), 'lay_base')).rejects.toMatchObject({ code: 'integrity' });
  });

  it('holds a zero block', () => {
    const map = { ...flat, blocks: [{ name: 'mem', sizeBytes, extents: zeroExtents(pages) }] };
    expect(decodeMap(encodeMap(map), 'x').blocks).toEqual(map.blocks);
  });
});
