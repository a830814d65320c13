import type { PageRange } from './encode.js';
import { PAGE_BYTES, type RamBlock } from './format.js';

/** Which pages of each block have been sent: in postcopy no page may be sent twice. */
export class SentPages {
  readonly #sent: readonly Uint8Array[];

  constructor(blocks: readonly RamBlock[]) {
    this.#sent = blocks.map((block) => new Uint8Array(block.sizeBytes / PAGE_BYTES));
  }

  /** Whether a page has been sent. */
  has(block: number, page: number): boolean {
    return this.#sent[block]?.[page] === 1;
  }

  /** Notes pages as sent. */
  add(block: number, page: number, count: number): void {
    this.#sent[block]?.fill(1, page, page + count);
  }

  /** The runs of pages in `[from, end)` that have not been sent. */
  *missing(block: number, from: number, end: number): Generator<PageRange> {
    const sent = this.#sent[block] ?? new Uint8Array(0);
    let page = from;
    while (page < end) {
      if (sent[page] === 1) page += 1;
      else {
        const next = sent.indexOf(1, page);
        const to = next < 0 ? end : Math.min(next, end);
        yield { startPage: page, pageCount: to - page };
        page = to;
      }
    }
  }

  /** Number of pages of a block. */
  pages(block: number): number {
    return this.#sent[block]?.length ?? 0;
  }
}
