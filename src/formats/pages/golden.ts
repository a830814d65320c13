import { type FileHandle, open } from 'node:fs/promises';
import { readFully } from '../../base/files.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import type { PageRange } from '../qemu-stream/encode.js';
import { IGNORE_SHARED, PAGE_BYTES, type RamBlock } from '../qemu-stream/format.js';
import type { PageSource } from '../qemu-stream/page-source.js';
import { type ParsedStream, StreamParser } from '../qemu-stream/stream-parser.js';
import { writeFlat } from './flat-writer.js';
import { addMap, type LayerPaths } from './layer-files.js';
import type { LayerMap } from './layer-map.js';

/**
 * All blocks but the machine's RAM: firmware and ACPI tables, 0.7 MiB on q35; on virt two banks of flash memory of 64 MiB
 * each, which hold nothing. A display adapter's memory would count here too.
 */
export const maxSmallBlockBytes = 192 * 1024 * 1024;

/** A stopped machine's stream under `x-ignore-shared`: everything but the RAM, which stays in its file. */
export interface SavedMachine {
  readonly machineType: string;
  /** All RAM blocks, the machine's RAM (whose pages are not in the stream) first. */
  readonly blocks: readonly RamBlock[];
  /** Content of the blocks behind the first, in their order. */
  readonly smallBlocks: readonly Buffer[];
  /** See device-state.ts of the migration room. */
  readonly deviceSections: Buffer;
}

/**
 * Reads what QEMU writes for `migrate` with `x-ignore-shared` of a machine whose RAM is a shared file. The small blocks
 * are kept because QEMU fills none of them in a machine that waits for a migration: without them a reboot inside the
 * guest would find no firmware. They do not change while a guest runs (firmware is read-only to it, and the ACPI
 * tables are rebuilt by QEMU at each reset before they are read), so every later generation uses the golden's.
 * `ramBlock` is the id of the memory backend.
 * @throws machine_failed when the stream is damaged, ends early or holds pages of the RAM.
 */
export async function readSavedMachine(
  stream: AsyncIterable<Buffer> | Iterable<Buffer>,
  ramBlock: string,
): Promise<SavedMachine> {
  let blocks: readonly RamBlock[] = [];
  let content: Buffer[] = [];
  const parser = new StreamParser({
    onBlocks: (listed) => {
      blocks = listed;
      if (listed[0]?.name !== ramBlock)
        throw new CryoboxError(
          'machine_failed',
          `expected ${ramBlock} as first RAM block, got ${listed[0]?.name}`,
        );
      const small = listed.slice(1);
      if (small.reduce((sum, block) => sum + block.sizeBytes, 0) > maxSmallBlockBytes)
        throw new CryoboxError(
          'machine_failed',
          `expected at most ${maxSmallBlockBytes} bytes beside ${ramBlock}`,
        );
      content = small.map((block) => Buffer.alloc(block.sizeBytes));
    },
    onPage: (block, page, data) => {
      const target = content[block - 1];
      if (!target)
        throw new CryoboxError(
          'machine_failed',
          `the stream holds ${ramBlock}: is its memory shared, and ignored?`,
        );
      data.copy(target, page * PAGE_BYTES);
    },
  });
  for await (const piece of stream) parser.feed(piece);
  const parsed: ParsedStream = parser.end();
  if (!parsed.capabilities.includes(IGNORE_SHARED))
    throw new CryoboxError('machine_failed', `expected a stream saved with ${IGNORE_SHARED}`);
  return {
    machineType: parsed.machineType,
    blocks,
    smallBlocks: content,
    deviceSections: parsed.deviceSections,
  };
}

/**
 * Turns the file that was a golden machine's shared RAM into a flat layer, generation 0: the file `paths.pages` is
 * scanned and hashed, the small blocks are put behind the RAM, and the map is written. QEMU must have exited, or at
 * least never write the file again. Durable when it returns; after a failure there is no map.
 * @throws storage_error or disk_full; integrity when the file is not of the RAM's size.
 */
export async function adoptGolden(options: {
  paths: LayerPaths;
  layerId: string;
  saved: SavedMachine;
  signal?: AbortSignal;
}): Promise<LayerMap> {
  const { paths, layerId, saved, signal } = options;
  const what = `adopting golden memory as layer ${layerId}`;
  const data = await open(paths.pages, 'r+').catch((error: unknown) => {
    throw wrapHostError(error, what);
  });
  try {
    const { size } = await data.stat();
    const expected = saved.blocks[0]?.sizeBytes;
    if (size !== expected)
      throw new CryoboxError('integrity', `golden memory: expected ${expected} bytes, got ${size}`);
    const source = new GoldenSource(saved, data);
    return await addMap(data, paths, () =>
      writeFlat({ data, layerId, source, firstBlockInPlace: true, signal }),
    );
  } catch (error) {
    throw wrapHostError(error, what);
  } finally {
    await data.close();
  }
}

/** The RAM from its file, the small blocks from memory. */
class GoldenSource implements PageSource {
  readonly blocks: readonly RamBlock[];
  readonly #small: readonly Buffer[];
  readonly #file: FileHandle;

  constructor(saved: SavedMachine, file: FileHandle) {
    this.blocks = saved.blocks;
    this.#small = saved.smallBlocks;
    this.#file = file;
  }

  dataRanges(_block: number, startPage: number, pageCount: number): PageRange[] {
    return [{ startPage, pageCount }];
  }

  async read(block: number, startPage: number, pageCount: number, target: Buffer): Promise<void> {
    const at = startPage * PAGE_BYTES;
    const small = this.#small[block - 1];
    if (small) {
      small.copy(target, 0, at, at + pageCount * PAGE_BYTES);
      return;
    }
    const bytesRead = await readFully(this.#file, target.subarray(0, pageCount * PAGE_BYTES), at);
    if (bytesRead !== pageCount * PAGE_BYTES)
      throw new CryoboxError('integrity', `golden memory: it ends at ${at + bytesRead}`);
  }
}
