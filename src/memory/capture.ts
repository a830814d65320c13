import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { CryoboxError } from '../errors.js';
import type { PageRange } from '../migration/encode.js';
import { PAGE_BYTES, type RamBlock } from '../migration/format.js';
import type { PageSource } from '../migration/page-source.js';
import { DifferenceCollector, MAX_RUN_PAGES } from './difference-collector.js';
import { writeFlat } from './flat-writer.js';
import { createLayer, type LayerPaths } from './layer-files.js';
import {
  deriveMap,
  FLAT_ABOVE_BYTES,
  type LayerForm,
  type LayerMap,
  MAX_LAYERS,
  measure,
} from './layer-map.js';
import type { MemoryImage } from './memory-image.js';
import { PackedWriter } from './packed-writer.js';
import { ProcessMemory, type RamMapping, type WrittenRuns } from './process-memory.js';

/** Pages processed before other work of this process gets a turn: about 4 ms. */
const pagesPerTurn = 1024;

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
 * failure nothing is left and the machine is untouched. Memory use is bounded (10 MiB).
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
      await collectRuns(written, memory, collector);
      comparedPages = collector.comparedPages;
      return deriveMap(options.parent.map, await collector.finish(options.layerId));
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  });
  return { map, comparedPages, writtenBytes: map.dataBytes };
}

async function collectRuns(
  { runs }: WrittenRuns,
  memory: ProcessMemory,
  collector: DifferenceCollector,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(MAX_RUN_PAGES * PAGE_BYTES);
  let sinceTurn = 0;
  for (let at = 0; at < runs.length; at += 2) {
    const end = (runs[at] ?? 0) + (runs[at + 1] ?? 0);
    for (let page = runs[at] ?? 0; page < end; page += MAX_RUN_PAGES) {
      const count = Math.min(MAX_RUN_PAGES, end - page);
      memory.readPages(page, buffer.subarray(0, count * PAGE_BYTES));
      await collector.add(0, page, count, buffer);
      sinceTurn += count;
    }
    if (sinceTurn < pagesPerTurn) continue;
    sinceTurn = 0;
    await yieldToEvents();
  }
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

/**
 * The whole memory of an image as a new flat layer: what a background merge does, and what makes a deep or large
 * difference cheap to resume. Durable when it returns; after a failure nothing is left.
 * @throws integrity when a source layer is damaged; cancelled; disk_full or storage_error.
 */
export async function materialiseFlat(options: {
  image: MemoryImage;
  paths: LayerPaths;
  layerId: string;
  signal?: AbortSignal;
}): Promise<LayerMap> {
  const { image, paths, layerId, signal } = options;
  if (image.map.layers.includes(layerId))
    throw new CryoboxError('internal', `memory layer ${layerId} cannot be made from itself`);
  return createLayer(paths, layerId, (data) => writeFlat({ data, layerId, source: image, signal }));
}
