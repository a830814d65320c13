import { Turns } from '../base/turns.js';
import { DifferenceCollector, MAX_RUN_PAGES } from '../formats/pages/difference-collector.js';
import { writeFlat } from '../formats/pages/flat-writer.js';
import { createLayer, type LayerPaths } from '../formats/pages/layer-files.js';
import {
  deriveMap,
  FLAT_ABOVE_BYTES,
  type LayerForm,
  type LayerMap,
  MAX_LAYERS,
  measure,
} from '../formats/pages/layer-map.js';
import type { MemoryImage } from '../formats/pages/memory-image.js';
import { PackedWriter } from '../formats/pages/packed-writer.js';
import type { PageRange } from '../formats/qemu-stream/encode.js';
import { PAGE_BYTES, type RamBlock } from '../formats/qemu-stream/format.js';
import type { PageSource } from '../formats/qemu-stream/page-source.js';
import { ProcessMemory, type RamMapping, type WrittenRuns } from './process-memory.js';

/**
 * Memory a capture may take to let its machine go on early: copying a page takes a fifth of the time of comparing and
 * storing it. What is beyond is stored while the machine stands still.
 */
const maxHeldBytes = 64 * 1024 * 1024;

/** What a capture is made of. */
export interface CaptureOptions {
  /** The machine's process; it must be stopped (QMP `stop`). */
  readonly pid: number;
  /** How its RAM, the first block, is mapped. */
  readonly mapping: RamMapping;
  /** What the machine was restored from. */
  readonly parent: MemoryImage;
  /** The files to create for the new layer. */
  readonly paths: LayerPaths;
  readonly layerId: string;
  /** The form of the new layer. Default: flat for a large difference, where that writes at most twice as much. */
  readonly form?: LayerForm;
  /** What a large difference is. Default {@link FLAT_ABOVE_BYTES}. */
  readonly flatAboveBytes?: number;
  /**
   * Called, and waited for, as soon as the machine may run again, which is before its pages are stored: up to 64 MiB of
   * them are copied. Not called for a flat layer. Absent: nothing is copied.
   */
  readonly onRead?: () => Promise<void>;
}

/** A new layer and what it took. */
export interface CaptureResult {
  readonly map: LayerMap;
  /** Pages read and compared with the parent's. */
  readonly comparedPages: number;
  /** Bytes of page data written. */
  readonly writtenBytes: number;
}

/**
 * Writes the pages of a stopped machine that differ from its parent as a new layer. Durable when it returns; after a
 * failure nothing is left and the machine is untouched. Memory use is bounded: 10 MiB, and 64 MiB more with `onRead`.
 * @throws machine_failed when the process cannot be read; disk_full or storage_error.
 */
export async function captureProcess(options: CaptureOptions): Promise<CaptureResult> {
  const memory = await ProcessMemory.open(options.pid, options.mapping);
  try {
    const written = await memory.writtenRuns();
    const form = options.form ?? chooseForm(options, written);
    const capture = form === 'flat' ? captureFlat : capturePacked;
    return await capture(options, memory, written);
  } finally {
    memory.close();
  }
}

/**
 * Flat only where the pages written say how far the machine is from the file it maps, and where copying the rest of
 * the parent costs no more than the difference itself.
 */
function chooseForm(options: CaptureOptions, written: WrittenRuns): LayerForm {
  const { map } = options.parent;
  if (map.layers.length >= MAX_LAYERS) return 'flat';
  const writtenBytes = written.writtenPages * PAGE_BYTES;
  const isLarge = writtenBytes > (options.flatAboveBytes ?? FLAT_ABOVE_BYTES);
  if (options.mapping.file === undefined || !isLarge) return 'packed';
  const ram = map.blocks[0];
  return ram && measure([ram.extents]).dataBytes <= writtenBytes ? 'flat' : 'packed';
}

async function capturePacked(
  options: CaptureOptions,
  memory: ProcessMemory,
  written: WrittenRuns,
): Promise<CaptureResult> {
  let comparedPages = 0;
  const map = await createLayer(options.paths, options.layerId, async (data) => {
    const writer = new PackedWriter(data, options.layerId);
    try {
      const collector = new DifferenceCollector(options.parent, writer);
      await collectRuns(piecesOf(written), memory, collector, options.onRead);
      comparedPages = collector.comparedPages;
      return deriveMap(options.parent.map, await collector.finish(options.layerId));
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  });
  return { map, comparedPages, writtenBytes: map.dataBytes };
}

/** Consecutive pages that are read at once, at most {@link MAX_RUN_PAGES}. */
interface Piece {
  readonly page: number;
  readonly count: number;
}

function piecesOf({ runs }: WrittenRuns): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 0; at < runs.length; at += 2) {
    const end = (runs[at] ?? 0) + (runs[at + 1] ?? 0);
    for (let page = runs[at] ?? 0; page < end; page += MAX_RUN_PAGES)
      pieces.push({ page, count: Math.min(MAX_RUN_PAGES, end - page) });
  }
  return pieces;
}

/** Collects in address order; with `onRead` the last pieces are copied first, so that the machine can go on. */
async function collectRuns(
  pieces: readonly Piece[],
  memory: ProcessMemory,
  collector: DifferenceCollector,
  onRead?: () => Promise<void>,
): Promise<void> {
  const copied = onRead ? firstHeld(pieces) : pieces.length;
  const turns = new Turns();
  const buffer = Buffer.allocUnsafe(MAX_RUN_PAGES * PAGE_BYTES);
  for (const { page, count } of pieces.slice(0, copied)) {
    memory.readPages(page, buffer.subarray(0, count * PAGE_BYTES));
    await collector.add(0, page, count, buffer);
    await turns.chunk();
  }
  const held = pieces.slice(copied).map((piece) => {
    const data = Buffer.allocUnsafe(piece.count * PAGE_BYTES);
    memory.readPages(piece.page, data);
    return { ...piece, data };
  });
  await onRead?.();
  for (const { page, count, data } of held) {
    await collector.add(0, page, count, data);
    await turns.chunk();
  }
}

/** The first of the pieces that fit into {@link maxHeldBytes} together with all behind it. */
function firstHeld(pieces: readonly Piece[]): number {
  let bytes = 0;
  let first = pieces.length;
  while (first > 0) {
    bytes += (pieces[first - 1]?.count ?? 0) * PAGE_BYTES;
    if (bytes > maxHeldBytes) break;
    first -= 1;
  }
  return first;
}

async function captureFlat(
  options: CaptureOptions,
  memory: ProcessMemory,
  written: WrittenRuns,
): Promise<CaptureResult> {
  const source = new LiveSource(options.parent, memory, written);
  const map = await createLayer(options.paths, options.layerId, (data) =>
    writeFlat({ data, layerId: options.layerId, source }),
  );
  const writtenBytes = measure(map.blocks.map((block) => block.extents)).dataBytes;
  return { map, comparedPages: written.writtenPages, writtenBytes };
}

/** The parent's memory with the pages the machine has written laid over it. */
class LiveSource implements PageSource {
  readonly blocks: readonly RamBlock[];
  readonly #parent: MemoryImage;
  readonly #memory: ProcessMemory;
  readonly #runs: Uint32Array;
  /** Index of the first run that can matter; reads go upwards. */
  #next = 0;

  constructor(parent: MemoryImage, memory: ProcessMemory, written: WrittenRuns) {
    this.blocks = parent.blocks;
    this.#parent = parent;
    this.#memory = memory;
    this.#runs = written.runs;
  }

  dataRanges(block: number, startPage: number, pageCount: number): PageRange[] {
    const ranges = this.#parent.dataRanges(block, startPage, pageCount);
    return block === 0 ? joined([...ranges, ...this.#written(startPage, pageCount)]) : ranges;
  }

  async read(block: number, startPage: number, pageCount: number, target: Buffer): Promise<void> {
    const live = block === 0 ? this.#written(startPage, pageCount) : [];
    const covered = live[0]?.startPage === startPage && live[0].pageCount === pageCount;
    if (!covered) await this.#parent.read(block, startPage, pageCount, target);
    for (const run of live) {
      const from = (run.startPage - startPage) * PAGE_BYTES;
      this.#memory.readPages(run.startPage, target.subarray(from, from + run.pageCount * PAGE_BYTES));
    }
  }

  #written(startPage: number, pageCount: number): PageRange[] {
    const runs = this.#runs;
    const end = startPage + pageCount;
    while (this.#next < runs.length && (runs[this.#next] ?? 0) + (runs[this.#next + 1] ?? 0) <= startPage)
      this.#next += 2;
    const found: PageRange[] = [];
    for (let at = this.#next; at < runs.length && (runs[at] ?? 0) < end; at += 2) {
      const from = Math.max(startPage, runs[at] ?? 0);
      const to = Math.min(end, (runs[at] ?? 0) + (runs[at + 1] ?? 0));
      found.push({ startPage: from, pageCount: to - from });
    }
    return found;
  }
}

/** Ranges in order, those that touch or overlap made one. */
function joined(ranges: readonly PageRange[]): PageRange[] {
  const out: { startPage: number; pageCount: number }[] = [];
  for (const { startPage, pageCount } of [...ranges].sort((a, b) => a.startPage - b.startPage)) {
    const last = out.at(-1);
    const lastEnd = last ? last.startPage + last.pageCount : -1;
    if (last && startPage <= lastEnd)
      last.pageCount = Math.max(lastEnd, startPage + pageCount) - last.startPage;
    else out.push({ startPage, pageCount });
  }
  return out;
}
