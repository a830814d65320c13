import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { endianness } from 'node:os';
import { basename } from 'node:path';
import { readFully } from '../../base/files.js';
import type { SparseRange } from '../../base/gnu-sparse.js';
import { wrapHostError } from '../../errors.js';
import { CLUSTER_BYTES, type DiskFormat, invalidImage } from './format.js';
import { parseHeader, type Qcow2Header } from './header.js';
import { findDataRanges } from './holes.js';

/** Reads a header of the file at `path`, which errors call by its name: where it lies is the host's own. Throws `disk_image_invalid`, or `storage_error` when it cannot be read. */
export async function readHeader(path: string): Promise<Qcow2Header> {
  const layer = await openLayer({ path, name: basename(path), format: 'qcow2' });
  try {
    return layer.qcow2Header();
  } finally {
    await layer.close();
  }
}

/** What a header of ours takes at most, with its extensions and the name of its parent. */
const headerBytes = 4096;

/**
 * As {@link readHeader}, at once, and little of the file: for a caller that has thousands to read, where each trip to
 * another thread counts.
 */
export function readHeaderSync(path: string): Qcow2Header {
  const name = basename(path);
  let file: number | undefined;
  try {
    file = openSync(path, openFlags);
    const stats = fstatSync(file);
    if (!stats.isFile()) throw invalidImage(name, 'not a regular file');
    const first = Buffer.alloc(Math.min(headerBytes, stats.size));
    return parseHeader(first.subarray(0, readSync(file, first, 0, first.length, 0)), stats.size, name);
  } catch (error) {
    throw wrapHostError(error, `open disk image ${name}`);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** O_NONBLOCK so that a FIFO in the place of a layer cannot hang the engine. */
const openFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Holes of a raw file that cost more to read as zeros (10 ms) than to find (3 ms). */
const WORTHWHILE_HOLES_BYTES = 16 * 1024 * 1024;

/** How to open a layer. */
interface OpenLayerOptions {
  readonly path: string;
  /** What the layer is called in errors and in maps. */
  readonly name: string;
  readonly format: DiskFormat;
}

/** Opens a layer for reading. The caller closes it. */
export async function openLayer(options: OpenLayerOptions): Promise<Layer> {
  const { path, name, format } = options;
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, openFlags);
    const stats = await handle.stat();
    if (!stats.isFile()) throw invalidImage(name, 'not a regular file');
    const header = format === 'raw' ? null : await headerOf(handle, stats.size, name);
    return new Layer(options, handle, header, {
      identity: `${stats.dev}:${stats.ino}`,
      fileSizeBytes: stats.size,
      allocatedBytes: stats.blocks * 512,
    });
  } catch (error) {
    await handle?.close();
    throw wrapHostError(error, `open disk image ${name}`);
  }
}

interface LayerFacts {
  readonly identity: string;
  readonly fileSizeBytes: number;
  readonly allocatedBytes: number;
}

/** One file of a chain, open for reading. */
export class Layer {
  readonly name: string;
  readonly path: string;
  readonly format: DiskFormat;
  /** Device and inode: the same for two names of one file. */
  readonly identity: string;
  readonly fileSizeBytes: number;
  /** Bytes of the file system this file takes. */
  readonly allocatedBytes: number;
  /** null for a raw layer. */
  readonly header: Qcow2Header | null;
  readonly #handle: FileHandle;
  #l1: Promise<Uint32Array> | undefined;
  #dataRanges: Promise<readonly SparseRange[]> | undefined;

  constructor(options: OpenLayerOptions, handle: FileHandle, header: Qcow2Header | null, facts: LayerFacts) {
    this.name = options.name;
    this.path = options.path;
    this.format = options.format;
    this.identity = facts.identity;
    this.fileSizeBytes = facts.fileSizeBytes;
    this.allocatedBytes = facts.allocatedBytes;
    this.header = header;
    this.#handle = handle;
  }

  /** Bytes the guest sees of this layer: the header's size, or the length of a raw file. */
  get virtualSizeBytes(): number {
    return this.header?.virtualSizeBytes ?? this.fileSizeBytes;
  }

  /** The header. Throws `disk_image_invalid` for a raw layer. */
  qcow2Header(): Qcow2Header {
    if (!this.header) throw invalidImage(this.name, 'not a qcow2 image');
    return this.header;
  }

  /** Fills `target` from `offset` of the file; past its end there are zeros. Throws `storage_error`. */
  async read(target: Uint8Array, offset: number): Promise<void> {
    await readPadded(this.#handle, target, offset, this.name);
  }

  /** The L1 table as pairs of words (high, low), kept after the first call: at most 64 KiB. */
  async l1Table(): Promise<Uint32Array> {
    const { l1Offset, l1Entries } = this.qcow2Header();
    this.#l1 ??= this.readWords(l1Offset, l1Entries * 8);
    return await this.#l1;
  }

  /** Parts of a raw file that hold data, in order, kept after the first call; the rest reads as zeros. */
  async dataRanges(): Promise<readonly SparseRange[]> {
    this.#dataRanges ??= this.#findDataRanges();
    return await this.#dataRanges;
  }

  async #findDataRanges(): Promise<readonly SparseRange[]> {
    const worthIt = this.fileSizeBytes - this.allocatedBytes >= WORTHWHILE_HOLES_BYTES;
    const found = worthIt ? await findDataRanges(this.path) : undefined;
    return found ?? [{ offset: 0, length: this.fileSizeBytes }];
  }

  /** Big-endian 32-bit words of the file, in host order. */
  async readWords(offset: number, length: number): Promise<Uint32Array> {
    const bytes = Buffer.allocUnsafeSlow(length);
    await this.read(bytes, offset);
    if (endianness() === 'LE') bytes.swap32();
    return new Uint32Array(bytes.buffer, bytes.byteOffset, length / 4);
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}

async function headerOf(handle: FileHandle, fileSizeBytes: number, name: string): Promise<Qcow2Header> {
  const first = Buffer.alloc(Math.min(CLUSTER_BYTES, fileSizeBytes));
  await readPadded(handle, first, 0, name);
  return parseHeader(first, fileSizeBytes, name);
}

async function readPadded(
  handle: FileHandle,
  target: Uint8Array,
  offset: number,
  name: string,
): Promise<void> {
  try {
    target.fill(0, await readFully(handle, target, offset));
  } catch (error) {
    throw wrapHostError(error, `read disk image ${name}`);
  }
}
