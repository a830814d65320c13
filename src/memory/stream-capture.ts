import { CryoboxError } from '../errors.js';
import { DifferenceCollector, MAX_RUN_PAGES } from '../formats/pages/difference-collector.js';
import { createLayer, type LayerPaths } from '../formats/pages/layer-files.js';
import { deriveMap } from '../formats/pages/layer-map.js';
import type { MemoryImage } from '../formats/pages/memory-image.js';
import { PackedWriter } from '../formats/pages/packed-writer.js';
import { PAGE_BYTES, type RamBlock } from '../formats/qemu-stream/format.js';
import { StreamParser } from '../formats/qemu-stream/stream-parser.js';
import type { CaptureResult } from './capture.js';

/** A capture that came as a stream, with the device sections the stream ended with. */
export interface StreamCaptureResult extends CaptureResult {
  readonly machineType: string;
  readonly deviceSections: Buffer;
}

/**
 * The capture for a process whose memory may not be read: QEMU writes all of its RAM (QMP `migrate` of the stopped
 * machine, without `x-ignore-shared`), and what differs from the parent is packed. The layer is the same as
 * captureProcess() packs. The caller must see QMP report the migration as completed before it trusts the result.
 * @throws machine_failed when the stream is damaged or has other RAM blocks than the parent.
 */
export async function captureStream(options: {
  stream: AsyncIterable<Buffer>;
  parent: MemoryImage;
  paths: LayerPaths;
  layerId: string;
}): Promise<StreamCaptureResult> {
  let rest: Omit<StreamCaptureResult, 'map' | 'writtenBytes'> | undefined;
  const map = await createLayer(options.paths, options.layerId, async (data) => {
    const writer = new PackedWriter(data, options.layerId);
    try {
      const collector = new DifferenceCollector(options.parent, writer);
      const runs = new RunAssembler(options.parent, collector);
      const parser = new StreamParser({
        onBlocks: (blocks) => runs.checkBlocks(blocks),
        onPage: (block, page, content) => runs.page(block, page, content),
        onZeroPage: (block, page) => runs.page(block, page, undefined),
      });
      for await (const piece of options.stream) {
        parser.feed(piece);
        await runs.drain();
      }
      const { machineType, deviceSections } = parser.end();
      await runs.finish();
      rest = { machineType, deviceSections, comparedPages: collector.comparedPages };
      return deriveMap(options.parent.map, await collector.finish(options.layerId));
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  });
  if (!rest) throw new CryoboxError('internal', 'a captured stream has no end');
  return { ...rest, map, writtenBytes: map.dataBytes };
}

/** A run of pages waiting to be compared. */
interface Run {
  readonly block: number;
  readonly startPage: number;
  count: number;
  readonly data: Buffer;
}

/**
 * Puts single pages together to runs. A piece from a socket (64 KiB) makes few runs, but zero pages are nine bytes each,
 * so that a piece can stand for 28 MiB: runs of zeros therefore share one buffer and are handed on at once.
 */
class RunAssembler {
  readonly #parent: MemoryImage;
  readonly #collector: DifferenceCollector;
  readonly #zeros = Buffer.alloc(MAX_RUN_PAGES * PAGE_BYTES);
  #full: Run[] = [];
  #run: Run | undefined;
  #lastBlock = 0;
  #lastPage = -1;

  constructor(parent: MemoryImage, collector: DifferenceCollector) {
    this.#parent = parent;
    this.#collector = collector;
  }

  checkBlocks(blocks: readonly RamBlock[]): void {
    const list = (of: readonly RamBlock[]): string => of.map((b) => `${b.name}=${b.sizeBytes}`).join(' ');
    const [expected, got] = [list(this.#parent.blocks), list(blocks)];
    if (expected !== got)
      throw new CryoboxError(
        'machine_failed',
        `captured stream: expected RAM blocks ${expected}, got ${got}`,
      );
  }

  /** Takes one page, zero without data. */
  page(block: number, page: number, data: Buffer | undefined): void {
    const forward = block > this.#lastBlock || (block === this.#lastBlock && page > this.#lastPage);
    if (!forward)
      throw new CryoboxError(
        'machine_failed',
        `captured stream: page ${page} came out of order; is the machine stopped?`,
      );
    this.#lastBlock = block;
    this.#lastPage = page;
    const run = this.#runFor(block, page, data === undefined);
    data?.copy(run.data, run.count * PAGE_BYTES);
    run.count += 1;
  }

  async drain(): Promise<void> {
    const runs = this.#full;
    this.#full = [];
    for (const run of runs) await this.#collector.add(run.block, run.startPage, run.count, run.data);
  }

  async finish(): Promise<void> {
    if (this.#run) this.#full.push(this.#run);
    this.#run = undefined;
    await this.drain();
  }

  #runFor(block: number, page: number, zero: boolean): Run {
    const run = this.#run;
    const zeroRun = run?.data === this.#zeros;
    const fits =
      run && run.block === block && run.startPage + run.count === page && run.count < MAX_RUN_PAGES;
    if (fits && zeroRun === zero) return run;
    if (run) this.#full.push(run);
    const data = zero ? this.#zeros : Buffer.allocUnsafe(MAX_RUN_PAGES * PAGE_BYTES);
    this.#run = { block, startPage: page, count: 0, data };
    return this.#run;
  }
}
