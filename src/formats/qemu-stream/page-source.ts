import type { PageRange } from './encode.js';
import type { RamBlock } from './format.js';

/** Where a stream or a page server takes a machine's memory from. */
export interface PageSource {
  /** The RAM blocks, in the order of the stream's block list. */
  readonly blocks: readonly RamBlock[];
  /**
   * Parts of `[startPage, startPage + pageCount)` of a block that hold data, in order; what is not listed is zero.
   */
  dataRanges(block: number, startPage: number, pageCount: number): PageRange[];
  /**
   * Fills `target` with the content of consecutive pages.
   * @throws integrity when the stored data is damaged; storage_error when it cannot be read.
   */
  read(block: number, startPage: number, pageCount: number, target: Buffer): Promise<void>;
}
