import { PAGE_BYTES } from '../qemu-stream/format.js';

const zeroPage = Buffer.alloc(PAGE_BYTES);

/** Whether the page at `at` holds only zeros. */
export function isZeroPage(data: Buffer, at: number): boolean {
  // Most pages with content show it in the first byte; this spares them the call.
  if (data[at] !== 0) return false;
  return zeroPage.compare(data, at, at + PAGE_BYTES) === 0;
}

/** Whether the page at `at` is the same in both buffers. */
export function isSamePage(one: Buffer, other: Buffer, at: number): boolean {
  return one.compare(other, at, at + PAGE_BYTES, at, at + PAGE_BYTES) === 0;
}
