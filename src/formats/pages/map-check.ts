import { PAGE_BYTES } from '../qemu-stream/format.js';
import { EXTENT_WORDS, ZERO } from './extents.js';
import { type BlockMap, CHUNK_BYTES, DIGEST_BYTES, type LayerMap, MAX_LAYERS, pagesOf } from './layer-map.js';

/** Largest RAM block: page numbers must fit 32 bits, and no shape comes near (1 TiB). */
const maxBlockBytes = 2 ** 40;
/** Largest layer id in bytes; ours have 30. */
const maxIdBytes = 255;
/** QEMU's own limit of a block's name. */
const maxNameBytes = 255;
/** A machine has about ten blocks. */
const maxBlocks = 256;

/**
 * What is wrong with a map, or undefined: names and sizes within limits, extents sorted, without gaps or overlaps, over
 * exactly the pages of their block, and inside the data file where they refer to the layer itself. Checked before a
 * map is written and after it is read.
 */
export function mapFault(map: LayerMap): string | undefined {
  return tableFault(map) ?? digestFault(map) ?? blocksFault(map);
}

function tableFault(map: LayerMap): string | undefined {
  if (map.layers.length < 1 || map.layers.length > MAX_LAYERS)
    return `expected 1 to ${MAX_LAYERS} layers, got ${map.layers.length}`;
  if (new Set(map.layers).size !== map.layers.length) return 'a layer is listed twice';
  const badId = map.layers.find((id) => id.length === 0 || Buffer.byteLength(id) > maxIdBytes);
  if (badId !== undefined) return `expected layer ids of 1 to ${maxIdBytes} bytes`;
  if (map.blocks.length < 1 || map.blocks.length > maxBlocks)
    return `expected 1 to ${maxBlocks} RAM blocks, got ${map.blocks.length}`;
  if (new Set(map.blocks.map((block) => block.name)).size !== map.blocks.length)
    return 'a RAM block is listed twice';
  return undefined;
}

function digestFault(map: LayerMap): string | undefined {
  if (!Number.isSafeInteger(map.dataBytes) || map.dataBytes < 0 || map.dataBytes % PAGE_BYTES !== 0)
    return `expected a data length in whole pages, got ${map.dataBytes}`;
  const chunks = Math.ceil(map.dataBytes / CHUNK_BYTES);
  if (map.digests.length !== chunks * DIGEST_BYTES)
    return `expected ${chunks} digests for ${map.dataBytes} bytes, got ${map.digests.length / DIGEST_BYTES}`;
  return undefined;
}

function blocksFault(map: LayerMap): string | undefined {
  for (const block of map.blocks) {
    const nameBytes = Buffer.byteLength(block.name);
    if (nameBytes === 0 || nameBytes > maxNameBytes)
      return `expected block names of 1 to ${maxNameBytes} bytes`;
    const whole = block.sizeBytes > 0 && block.sizeBytes % PAGE_BYTES === 0;
    if (!whole || block.sizeBytes > maxBlockBytes)
      return `block ${block.name}: expected a size in whole pages up to 1 TiB, got ${block.sizeBytes}`;
    const fault = extentsFault(block, map);
    if (fault) return `block ${block.name}: ${fault}`;
  }
  return undefined;
}

function extentsFault(block: BlockMap, map: LayerMap): string | undefined {
  const words = block.extents;
  const ownPages = map.dataBytes / PAGE_BYTES;
  let page = 0;
  for (let at = 0; at < words.length; at += EXTENT_WORDS) {
    const [start = 0, count = 0, layer = 0, dataPage = 0] = words.subarray(at, at + EXTENT_WORDS);
    if (start !== page) return `expected an extent at page ${page}, got one at ${start}`;
    if (count === 0) return `the extent at page ${start} has no pages`;
    if (layer !== ZERO && layer >= map.layers.length)
      return `the extent at page ${start} names no listed layer`;
    if (layer === ZERO && dataPage !== 0) return `the zero extent at page ${start} has a data page`;
    if (layer === 0 && dataPage + count > ownPages)
      return `the extent at page ${start} ends behind the data file`;
    page = start + count;
  }
  return page === pagesOf(block) ? undefined : `expected extents over ${pagesOf(block)} pages, got ${page}`;
}
