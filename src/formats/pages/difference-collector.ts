import { PAGE_BYTES } from '../qemu-stream/format.js';
import { ExtentBuilder, ZERO } from './extents.js';
import type { LayerChanges } from './layer-map.js';
import type { MemoryImage } from './memory-image.js';
import type { PackedWriter } from './packed-writer.js';
import { isSamePage, isZeroPage } from './page-compare.js';

/** Most pages `add` takes at once: the size of the buffer for the parent's pages, 1 MiB. */
export const MAX_RUN_PAGES = 256;

/** Compares a machine's pages with its parent's and packs those that differ. Pages come in address order. */
export class DifferenceCollector {
  readonly #parent: MemoryImage;
  readonly #writer: PackedWriter;
  readonly #changes: ExtentBuilder[];
  readonly #scratch = Buffer.allocUnsafe(MAX_RUN_PAGES * PAGE_BYTES);
  #compared = 0;
  /** Data page of the next page to be stored. */
  #nextPage = 0;

  constructor(parent: MemoryImage, writer: PackedWriter) {
    this.#parent = parent;
    this.#writer = writer;
    this.#changes = parent.blocks.map(() => new ExtentBuilder());
  }

  /** Pages compared so far. */
  get comparedPages(): number {
    return this.#compared;
  }

  /** Takes `count` pages (at most {@link MAX_RUN_PAGES}) of a block; `data` may be used again afterwards. */
  async add(block: number, startPage: number, count: number, data: Buffer): Promise<void> {
    const length = count * PAGE_BYTES;
    const parent = this.#scratch.subarray(0, length);
    await this.#parent.readForCompare(block, startPage, count, parent);
    this.#compared += count;
    if (parent.compare(data, 0, length) === 0) return;
    let runStart = -1;
    for (let page = 0; page < count; page += 1) {
      const at = page * PAGE_BYTES;
      const keep = this.#classify(block, startPage + page, data, parent, at);
      if (keep && runStart < 0) runStart = at;
      if (keep || runStart < 0) continue;
      await this.#writer.append(data, runStart, at);
      runStart = -1;
    }
    if (runStart >= 0) await this.#writer.append(data, runStart, length);
  }

  /** Finishes the data file and returns what changed. */
  async finish(layerId: string): Promise<LayerChanges> {
    const { dataBytes, digests } = await this.#writer.finish();
    return { layerId, dataBytes, digests, changes: this.#changes.map((builder) => builder.finish()) };
  }

  /** Notes a change of the page at `at`; true when its content must be stored. */
  #classify(block: number, page: number, data: Buffer, parent: Buffer, at: number): boolean {
    if (isSamePage(data, parent, at)) return false;
    const changes = this.#changes[block];
    if (isZeroPage(data, at)) {
      changes?.add(page, 1, ZERO, 0);
      return false;
    }
    changes?.add(page, 1, 0, this.#nextPage);
    this.#nextPage += 1;
    return true;
  }
}
