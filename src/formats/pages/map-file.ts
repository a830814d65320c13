/**
 * The map file of a memory layer, version 1. Little-endian; offsets in bytes:
 *
 * | at | what |
 * |---|---|
 * | 0 | magic `CBMEMMAP` |
 * | 8 | u32 version, 1 |
 * | 12 | u32 form: 0 packed, 1 flat |
 * | 16 | u64 length of the layer's data file |
 * | 24 | u32 generation |
 * | 28 | u32 number of layers, the layer itself first |
 * | 32 | u32 number of RAM blocks |
 * | 36 | u32 number of chunk digests |
 * | 40 | u32 length of the text part, a multiple of 8 |
 * | 44 | u32 zero |
 * | 48 | text: each layer id, then each block name, as u8 length and UTF-8; zeros up to a multiple of 8 |
 * | | per block: u64 size in bytes, u32 number of extents, u32 zero |
 * | | the extents of all blocks: u32 first page, u32 pages, u32 layer (0xffffffff: zero), u32 first data page |
 * | | the digests: 32 bytes for each MiB of the data file |
 * | | SHA-256 of everything before |
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { endianness } from 'node:os';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { EXTENT_WORDS } from './extents.js';
import { type BlockMap, DIGEST_BYTES, type LayerForm, type LayerMap } from './layer-map.js';
import { mapFault } from './map-check.js';

const magic = 'CBMEMMAP';
const version = 1;
const fixedBytes = 48;
const blockBytes = 16;
const extentBytes = EXTENT_WORDS * 4;
const forms: readonly LayerForm[] = ['packed', 'flat'];
/** The map of 1 TiB in single pages would be 4 GiB; 512 MiB holds 128 GiB in single pages, far more than any shape. */
const maxMapBytes = 512 * 1024 * 1024;

/** A map as the bytes of its file. @throws internal when the map is not valid. */
export function encodeMap(map: LayerMap): Buffer {
  const fault = mapFault(map);
  if (fault) throw new CryoboxError('internal', `memory map of layer ${map.layers[0]}: ${fault}`);
  const body = Buffer.concat([fixedPart(map), textPart(map), blockPart(map), extentPart(map), map.digests]);
  return Buffer.concat([body, createHash('sha256').update(body).digest()]);
}

function fixedPart(map: LayerMap): Buffer {
  const fixed = Buffer.alloc(fixedBytes);
  fixed.write(magic, 0, 'latin1');
  fixed.writeUInt32LE(version, 8);
  fixed.writeUInt32LE(forms.indexOf(map.form), 12);
  fixed.writeBigUInt64LE(BigInt(map.dataBytes), 16);
  fixed.writeUInt32LE(map.generation, 24);
  fixed.writeUInt32LE(map.layers.length, 28);
  fixed.writeUInt32LE(map.blocks.length, 32);
  fixed.writeUInt32LE(map.digests.length / DIGEST_BYTES, 36);
  fixed.writeUInt32LE(textPart(map).length, 40);
  return fixed;
}

function textPart(map: LayerMap): Buffer {
  const names = [...map.layers, ...map.blocks.map((block) => block.name)].map((name) => Buffer.from(name));
  const text = Buffer.concat(names.flatMap((name) => [Buffer.from([name.length]), name]));
  return Buffer.concat([text], Math.ceil(text.length / 8) * 8);
}

function blockPart(map: LayerMap): Buffer {
  const table = Buffer.alloc(map.blocks.length * blockBytes);
  for (const [index, block] of map.blocks.entries()) {
    table.writeBigUInt64LE(BigInt(block.sizeBytes), index * blockBytes);
    table.writeUInt32LE(block.extents.length / EXTENT_WORDS, index * blockBytes + 8);
  }
  return table;
}

function extentPart(map: LayerMap): Buffer {
  return Buffer.concat(map.blocks.map((block) => wordsToBytes(block.extents)));
}

/** u32 words in little-endian order: the memory itself on every host we run on, swapped on a big-endian one. */
function wordsToBytes(words: Uint32Array): Buffer {
  const bytes = Buffer.from(words.buffer, words.byteOffset, words.byteLength);
  return endianness() === 'LE' ? bytes : Buffer.from(bytes).swap32();
}

function bytesToWords(bytes: Buffer): Uint32Array {
  const words = new Uint32Array(bytes.length / 4);
  const copy = Buffer.from(words.buffer);
  bytes.copy(copy);
  if (endianness() !== 'LE') copy.swap32();
  return words;
}

/**
 * Reads a map from the bytes of its file. `what` names the file in errors.
 * @throws integrity when the bytes are damaged, of another version, or do not form a valid map.
 */
export function decodeMap(bytes: Buffer, what: string): LayerMap {
  const wrong = (why: string): CryoboxError => new CryoboxError('integrity', `memory map ${what}: ${why}`);
  if (bytes.length < fixedBytes + DIGEST_BYTES) throw wrong(`it is cut short at ${bytes.length} bytes`);
  if (bytes.toString('latin1', 0, 8) !== magic) throw wrong(`it does not start with ${magic}`);
  const got = bytes.readUInt32LE(8);
  if (got !== version) throw wrong(`expected format version ${version}, got ${got}`);
  const body = bytes.subarray(0, bytes.length - DIGEST_BYTES);
  const digest = createHash('sha256').update(body).digest();
  if (!digest.equals(bytes.subarray(body.length))) throw wrong('its checksum does not match');
  let map: LayerMap;
  try {
    map = decodeBody(body);
  } catch (error) {
    if (error instanceof RangeError) throw wrong('its tables do not fit its length');
    throw error;
  }
  const fault = mapFault(map);
  if (fault) throw wrong(fault);
  return map;
}

/** @throws RangeError when a table ends behind the body. */
function decodeBody(body: Buffer): LayerMap {
  const textEnd = fixedBytes + body.readUInt32LE(40);
  const names = decodeNames(
    body.subarray(fixedBytes, textEnd),
    body.readUInt32LE(28) + body.readUInt32LE(32),
  );
  const layers = names.slice(0, body.readUInt32LE(28));
  const blockNames = names.slice(layers.length);
  let at = textEnd + blockNames.length * blockBytes;
  const blocks = blockNames.map((name, index): BlockMap => {
    const entry = textEnd + index * blockBytes;
    const length = body.readUInt32LE(entry + 8) * extentBytes;
    const extents = bytesToWords(exactly(body, at, length));
    at += length;
    return { name, sizeBytes: Number(body.readBigUInt64LE(entry)), extents };
  });
  const digests = Buffer.from(exactly(body, at, body.readUInt32LE(36) * DIGEST_BYTES));
  if (at + digests.length !== body.length) throw new RangeError('bytes behind the digests');
  const form = forms[body.readUInt32LE(12)];
  if (!form) throw new RangeError('unknown form');
  const dataBytes = Number(body.readBigUInt64LE(16));
  return { layers, form, generation: body.readUInt32LE(24), dataBytes, blocks, digests };
}

function decodeNames(text: Buffer, count: number): string[] {
  const names: string[] = [];
  let at = 0;
  for (let i = 0; i < count; i += 1) {
    const length = text.readUInt8(at);
    names.push(exactly(text, at + 1, length).toString('utf8'));
    at += 1 + length;
  }
  return names;
}

function exactly(bytes: Buffer, at: number, length: number): Buffer {
  if (at + length > bytes.length) throw new RangeError('table behind the end');
  return bytes.subarray(at, at + length);
}

/**
 * Reads a map file and checks that it is the map of `layerId`.
 * @throws integrity when it is missing, damaged or another layer's; storage_error when it cannot be read.
 */
export async function readMap(path: string, layerId: string): Promise<LayerMap> {
  const bytes = await readBounded(path, layerId);
  const map = decodeMap(bytes, `of layer ${layerId}`);
  if (map.layers[0] !== layerId)
    throw new CryoboxError(
      'integrity',
      `memory map of layer ${layerId}: the file is layer ${map.layers[0]}'s`,
    );
  return map;
}

async function readBounded(path: string, layerId: string): Promise<Buffer> {
  try {
    const handle = await open(path, 'r');
    try {
      const { size } = await handle.stat();
      if (size > maxMapBytes)
        throw new CryoboxError('integrity', `memory map of layer ${layerId}: ${size} bytes`);
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    throw wrapHostError(
      error,
      `reading the memory map of layer ${layerId}`,
      missing ? 'integrity' : undefined,
    );
  }
}
