/**
 * Extents say, for every page of a RAM block, where its content lies. They are kept as one Uint32Array of four words
 * each, because a machine of many GiB can have hundreds of thousands: first page, number of pages, layer, first page
 * in the layer's data file. `layer` is an index into the map's layer table, or {@link ZERO}.
 */

/** Words of one extent. */
export const EXTENT_WORDS = 4;
/** The layer number of pages that are all zero; their data page is 0. */
export const ZERO = 0xffff_ffff;

/** One extent, taken out of its array. */
export interface Extent {
  readonly startPage: number;
  readonly pageCount: number;
  /** Index into the layer table, or {@link ZERO}. */
  readonly layer: number;
  readonly dataPage: number;
}

/** Collects extents in order; joins what can be one extent, so that the result is normal. */
export class ExtentBuilder {
  #words = new Uint32Array(64 * EXTENT_WORDS);
  #length = 0;

  /** Number of extents so far. */
  get count(): number {
    return this.#length / EXTENT_WORDS;
  }

  /** Appends an extent behind all earlier ones; one of no pages is left out. */
  add(startPage: number, pageCount: number, layer: number, dataPage: number): void {
    if (pageCount === 0) return;
    const last = this.#length - EXTENT_WORDS;
    if (last >= 0 && this.#continues(last, startPage, layer, dataPage)) {
      this.#words[last + 1] = this.#word(last + 1) + pageCount;
      return;
    }
    if (this.#length === this.#words.length) this.#grow();
    this.#words.set([startPage, pageCount, layer, layer === ZERO ? 0 : dataPage], this.#length);
    this.#length += EXTENT_WORDS;
  }

  /** The extents added; the builder must not be used again. */
  finish(): Uint32Array {
    return this.#words.slice(0, this.#length);
  }

  #continues(last: number, startPage: number, layer: number, dataPage: number): boolean {
    const count = this.#word(last + 1);
    if (this.#word(last) + count !== startPage || this.#word(last + 2) !== layer) return false;
    return layer === ZERO || this.#word(last + 3) + count === dataPage;
  }

  #grow(): void {
    const larger = new Uint32Array(this.#words.length * 2);
    larger.set(this.#words);
    this.#words = larger;
  }

  #word(at: number): number {
    return this.#words[at] ?? 0;
  }
}

/** Extent number `index`. */
export function extentAt(extents: Uint32Array, index: number): Extent {
  const at = index * EXTENT_WORDS;
  return {
    startPage: extents[at] ?? 0,
    pageCount: extents[at + 1] ?? 0,
    layer: extents[at + 2] ?? ZERO,
    dataPage: extents[at + 3] ?? 0,
  };
}

/** Number of the extent that holds `page`, by binary search; of the first one behind it in a list with gaps. */
export function findExtent(extents: Uint32Array, page: number): number {
  let low = 0;
  let high = extents.length / EXTENT_WORDS;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const end = (extents[middle * EXTENT_WORDS] ?? 0) + (extents[middle * EXTENT_WORDS + 1] ?? 0);
    if (end <= page) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The parts of extents that lie in `[startPage, startPage + pageCount)`, in order. */
export function* extentsIn(extents: Uint32Array, startPage: number, pageCount: number): Generator<Extent> {
  const end = startPage + pageCount;
  const total = extents.length / EXTENT_WORDS;
  for (let index = findExtent(extents, startPage); index < total; index += 1) {
    const extent = extentAt(extents, index);
    if (extent.startPage >= end) return;
    const from = Math.max(extent.startPage, startPage);
    const to = Math.min(extent.startPage + extent.pageCount, end);
    const dataPage = extent.layer === ZERO ? 0 : extent.dataPage + (from - extent.startPage);
    yield { startPage: from, pageCount: to - from, layer: extent.layer, dataPage };
  }
}

/** One extent of zeros over a whole block. */
export function zeroExtents(pageCount: number): Uint32Array {
  return Uint32Array.of(0, pageCount, ZERO, 0);
}

/**
 * Lays `changes` (sorted, without overlaps, gaps allowed) over `base`: where there is a change it wins. Both use the
 * same layer table. The result is normal and covers what the two cover.
 */
export function overlayExtents(base: Uint32Array, changes: Uint32Array): Uint32Array {
  const out = new ExtentBuilder();
  let page = 0;
  const copyBase = (until: number): void => {
    for (const part of extentsIn(base, page, until - page))
      out.add(part.startPage, part.pageCount, part.layer, part.dataPage);
  };
  for (let index = 0; index < changes.length / EXTENT_WORDS; index += 1) {
    const change = extentAt(changes, index);
    copyBase(change.startPage);
    out.add(change.startPage, change.pageCount, change.layer, change.dataPage);
    page = change.startPage + change.pageCount;
  }
  copyBase(ZERO);
  return out.finish();
}

/**
 * The parts of `target` whose content does not come from the same place in `base`. `baseLayer` translates a layer
 * number of the target into the base's; -1 where the base does not know that layer. Both cover the same pages.
 */
export function differingExtents(
  target: Uint32Array,
  base: Uint32Array,
  baseLayer: (layer: number) => number,
): Uint32Array {
  const out = new ExtentBuilder();
  for (let index = 0; index < target.length / EXTENT_WORDS; index += 1) {
    const { startPage, pageCount, layer, dataPage } = extentAt(target, index);
    const wanted = layer === ZERO ? ZERO : baseLayer(layer);
    for (const part of extentsIn(base, startPage, pageCount)) {
      const at = layer === ZERO ? 0 : dataPage + (part.startPage - startPage);
      const same = part.layer === wanted && part.dataPage === at;
      if (!same) out.add(part.startPage, part.pageCount, layer, at);
    }
  }
  return out.finish();
}

/** Pages of a list of extents, all of them and those with data. */
export function countPages(extents: Uint32Array): { pages: number; dataPages: number } {
  let pages = 0;
  let dataPages = 0;
  for (let at = 0; at < extents.length; at += EXTENT_WORDS) {
    const count = extents[at + 1] ?? 0;
    pages += count;
    if (extents[at + 2] !== ZERO) dataPages += count;
  }
  return { pages, dataPages };
}
