import { CryoboxError } from '../../errors.js';
import {
  configuration,
  endOfStream,
  ramEnd,
  ramPartEnd,
  ramPartStart,
  ramSetup,
  streamHeader,
} from './encode.js';
import type { RamBlock } from './format.js';
import { PageEncoder } from './page-encoder.js';
import type { SocketSink } from './sink.js';

/**
 * Writes one migration stream into a QEMU that waits with `-incoming defer`: header, configuration, block list, the
 * pages the caller adds, device sections. Pages that are not sent keep what the destination's memory holds: the mapped
 * file's content, or zero. Methods are called one at a time, in the order begin, pages and zeros, finish.
 */
export class StreamWriter {
  readonly #sink: SocketSink;
  readonly #encoder: PageEncoder;
  readonly #blocks: readonly RamBlock[];
  readonly #machineType: string;

  /** `machineType` is the versioned name of the destination's machine, such as `pc-q35-7.2`. */
  constructor(options: { sink: SocketSink; machineType: string; blocks: readonly RamBlock[] }) {
    this.#sink = options.sink;
    this.#encoder = new PageEncoder(options.sink);
    this.#blocks = options.blocks;
    this.#machineType = options.machineType;
  }

  /** Writes everything before the first page. */
  async begin(): Promise<void> {
    const start = [streamHeader(), configuration(this.#machineType), ramSetup(this.#blocks), ramPartStart()];
    await this.#sink.write(Buffer.concat(start));
    this.#encoder.begin();
  }

  /** Adds `count` pages of block number `block` from `startPage`, whose content is `data`. */
  async pages(block: number, startPage: number, count: number, data: Buffer): Promise<void> {
    await this.#encoder.pages(this.#block(block), startPage, count, data);
  }

  /** Adds `count` zero pages of block number `block` from `startPage`. */
  async zeros(block: number, startPage: number, count: number): Promise<void> {
    await this.#encoder.zeros(this.#block(block), startPage, count);
  }

  /** Ends the memory part and writes the device sections (see device-state.ts). The socket stays open. */
  async finish(deviceSections: Buffer): Promise<void> {
    await this.#encoder.flush();
    await this.#sink.write(Buffer.concat([ramPartEnd(), ramEnd(), deviceSections, endOfStream()]));
  }

  #block(index: number): RamBlock {
    const block = this.#blocks[index];
    if (!block) throw new CryoboxError('internal', `migration stream: there is no RAM block number ${index}`);
    return block;
  }
}
