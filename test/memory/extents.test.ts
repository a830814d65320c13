import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  countPages,
  differingExtents,
  EXTENT_WORDS,
  ExtentBuilder,
  extentAt,
  findExtent,
  overlayExtents,
  ZERO,
  zeroExtents,
} from '../../src/formats/pages/extents.js';

const pages = 64;

/** A plain array that says for each page where it lies: the model the maps are compared with. */
type Plain = (string | undefined)[];

function toPlain(extents: Uint32Array): Plain {
  const plain: Plain = Array(pages).fill(undefined);
  for (let index = 0; index < extents.length / EXTENT_WORDS; index += 1) {
    const { startPage, pageCount, layer, dataPage } = extentAt(extents, index);
    for (let i = 0; i < pageCount; i += 1) {
      if (plain[startPage + i] !== undefined) throw new Error(`page ${startPage + i} is covered twice`);
      plain[startPage + i] = layer === ZERO ? 'zero' : `${layer}@${dataPage + i}`;
    }
  }
  return plain;
}

function fromPlain(plain: readonly ([number, number] | 'zero' | undefined)[]): Uint32Array {
  const builder = new ExtentBuilder();
  for (const [page, source] of plain.entries()) {
    if (source === undefined) continue;
    if (source === 'zero') builder.add(page, 1, ZERO, 0);
    else builder.add(page, 1, source[0], source[1]);
  }
  return builder.finish();
}

const source = fc.oneof(
  fc.constant('zero' as const),
  // Few layers and data pages near the page itself: runs that can be joined are common.
  fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 6 })),
);
const run = fc.tuple(source, fc.integer({ min: 1, max: 9 }));
const full = fc
  .array(run, { minLength: pages, maxLength: pages })
  .map((runs) => spread(runs).slice(0, pages));
const partial = fc
  .array(fc.tuple(fc.option(source, { nil: undefined }), fc.integer({ min: 1, max: 9 })), {
    minLength: pages,
    maxLength: pages,
  })
  .map((runs) => spread(runs).slice(0, pages));

function spread<T extends [number, number] | 'zero' | undefined>(runs: readonly [T, number][]): T[] {
  return runs.flatMap(([from, count]) =>
    Array.from({ length: count }, (_, i) => (Array.isArray(from) ? ([from[0], from[1] + i] as T) : from)),
  );
}

function isNormal(extents: Uint32Array): boolean {
  for (let index = 1; index < extents.length / EXTENT_WORDS; index += 1) {
    const before = extentAt(extents, index - 1);
    const here = extentAt(extents, index);
    const touches = before.startPage + before.pageCount === here.startPage && before.layer === here.layer;
    if (touches && (here.layer === ZERO || before.dataPage + before.pageCount === here.dataPage))
      return false;
    if (before.startPage + before.pageCount > here.startPage) return false;
  }
  return true;
}

describe('extents', () => {
  it('overlay equals writing the changes into a plain array, and is normal', () => {
    fc.assert(
      fc.property(full, partial, (base, changes) => {
        const merged = overlayExtents(fromPlain(base), fromPlain(changes));
        const expected = base.map((from, page) => changes[page] ?? from);
        expect(toPlain(merged)).toEqual(toPlain(fromPlain(expected)));
        expect(isNormal(merged)).toBe(true);
        expect(countPages(merged).pages).toBe(pages);
      }),
    );
  });

  it('many generations of overlays equal the same writes into a plain array', () => {
    fc.assert(
      fc.property(fc.array(partial, { maxLength: 8 }), (generations) => {
        let map = zeroExtents(pages);
        const plain: ([number, number] | 'zero')[] = Array(pages).fill('zero');
        for (const changes of generations) {
          map = overlayExtents(map, fromPlain(changes));
          for (const [page, from] of changes.entries()) if (from !== undefined) plain[page] = from;
        }
        expect(toPlain(map)).toEqual(toPlain(fromPlain(plain)));
        expect(isNormal(map)).toBe(true);
      }),
    );
  });

  it('finds the extent of each page', () => {
    fc.assert(
      fc.property(full, (plain) => {
        const extents = fromPlain(plain);
        for (let page = 0; page < pages; page += 1) {
          const { startPage, pageCount } = extentAt(extents, findExtent(extents, page));
          expect(startPage <= page && page < startPage + pageCount).toBe(true);
        }
      }),
    );
  });

  it('the difference is exactly the pages whose source is another', () => {
    const shifted = (layer: number): number => (layer === 2 ? -1 : layer);
    fc.assert(
      fc.property(full, full, (target, base) => {
        const difference = toPlain(differingExtents(fromPlain(target), fromPlain(base), shifted));
        const [wantedAll, hadAll] = [toPlain(fromPlain(target)), toPlain(fromPlain(base))];
        for (let page = 0; page < pages; page += 1) {
          const wanted = wantedAll[page];
          const had = hadAll[page];
          const same = wanted === had && !wanted?.startsWith('2@');
          expect(difference[page]).toBe(same ? undefined : wanted);
        }
      }),
    );
  });
});
