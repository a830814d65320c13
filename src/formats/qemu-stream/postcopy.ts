import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { CryoboxError, wrapHostError } from '../../errors.js';
import {
  configuration,
  endOfStream,
  openReturnPath,
  type PageRange,
  postcopyAdvise,
  postcopyDiscard,
  postcopyPackage,
  ramEnd,
  ramPartEnd,
  ramPartStart,
  ramSetup,
  streamHeader,
} from './encode.js';
import { PAGE_BYTES, type RamBlock } from './format.js';
import { PageEncoder } from './page-encoder.js';
import type { PageSource } from './page-source.js';
import { type PageRequest, ReturnPathParser } from './return-path.js';
import { SentPages } from './sent-pages.js';
import { SocketSink } from './sink.js';

/** A page by the number of its block and its number in it. */
export interface PageAddress {
  readonly block: number;
  readonly page: number;
}

/** How pages are supplied; every value has a default. */
export interface PostcopyTuning {
  /**
   * Pages of an answer: the aligned group of that many around the page asked for. A power of two. Default 4: half the
   * round trips of single pages, and 11 MiB until the first command of a cold resume, where 8 pages send 15.
   */
  readonly clusterPages?: number;
  /** Milliseconds after the start of the guest until the rest follows unasked. Default 2000. */
  readonly backgroundDelayMs?: number;
  /** Bytes a second of that. Default 128 MiB. */
  readonly backgroundBytesPerSecond?: number;
}

/** What a page server has done so far. */
export interface PostcopyStats {
  /** Requests for pages that had not been sent. */
  readonly faults: number;
  /** Pages with data sent as answers, before the guest ran, and unasked. */
  readonly answeredPages: number;
  readonly prefetchedPages: number;
  readonly backgroundPages: number;
  /** Zero pages sent: nine bytes each. */
  readonly zeroPages: number;
  /** Everything written into QEMU, device state included. */
  readonly sentBytes: number;
}

/** What a page server is made of. */
export interface PostcopyOptions extends PostcopyTuning {
  /** Connected to a QEMU that waits with capability `postcopy-ram`. */
  readonly socket: Socket;
  readonly machineType: string;
  readonly source: PageSource;
  readonly deviceSections: Buffer;
  /** The working set: pages sent before the guest runs, each with its aligned group. */
  readonly prefetch?: readonly PageAddress[];
  /** Called when the guest can run: the device state is out. */
  readonly onRunning?: () => void;
}

const defaults = { clusterPages: 4, backgroundDelayMs: 2000, backgroundBytesPerSecond: 128 * 1024 * 1024 };
/** Pages of one unasked piece: an answer to a fault waits for at most this much in the socket, 128 KiB. */
const backgroundPages = 32;
/** Requests QEMU may have waiting; it asks once for each page a vCPU or device waits for. */
const maxWaitingRequests = 64 * 1024;

/**
 * The source of a QEMU postcopy migration: gives a machine its device state, lets it run at once, and supplies memory
 * as the guest asks for it (QEMU, docs/devel/migration.rst, "Postcopy"). Never sends a page twice; an answer to
 * a fault goes before anything unasked; ends the migration when all pages that hold data are sent.
 */
export class PostcopySource {
  readonly #options: PostcopyOptions & typeof defaults;
  readonly #source: PageSource;
  readonly #sink: SocketSink;
  readonly #encoder: PageEncoder;
  readonly #sent: SentPages;
  readonly #buffer = Buffer.allocUnsafe(backgroundPages * PAGE_BYTES);
  readonly #faults: PageAddress[] = [];
  readonly #requests: PageRequest[] = [];
  readonly #counts = { answeredPages: 0, prefetchedPages: 0, backgroundPages: 0, zeroPages: 0 };
  #wake: () => void = () => undefined;
  #backgroundFrom = Number.POSITIVE_INFINITY;
  #shut: boolean | undefined;
  #failure: unknown;

  constructor(options: PostcopyOptions) {
    this.#options = {
      ...options,
      clusterPages: options.clusterPages ?? defaults.clusterPages,
      backgroundDelayMs: options.backgroundDelayMs ?? defaults.backgroundDelayMs,
      backgroundBytesPerSecond: options.backgroundBytesPerSecond ?? defaults.backgroundBytesPerSecond,
    };
    const { clusterPages } = this.#options;
    const isPower = Number.isInteger(clusterPages) && (clusterPages & (clusterPages - 1)) === 0;
    if (!isPower || clusterPages < 1 || clusterPages > backgroundPages)
      throw new CryoboxError(
        'invalid_argument',
        `clusterPages: expected 1, 2, 4, 8, 16 or 32, got ${clusterPages}`,
      );
    this.#source = options.source;
    this.#sink = new SocketSink(options.socket);
    this.#encoder = new PageEncoder(this.#sink);
    this.#sent = new SentPages(this.#source.blocks);
  }

  /** Pages that were asked for, in order, each once. */
  get faultOrder(): readonly PageAddress[] {
    return this.#faults;
  }

  get stats(): PostcopyStats {
    return { faults: this.#faults.length, ...this.#counts, sentBytes: this.#sink.bytesWritten };
  }

  /** Lets the rest of memory follow from now on, rather than after `backgroundDelayMs`. */
  startBackground(): void {
    this.#backgroundFrom = Math.min(this.#backgroundFrom, performance.now());
    this.#wake();
  }

  /**
   * Supplies the machine until it has all its memory.
   * @throws machine_failed when QEMU goes away or refuses something before; integrity when a layer is damaged.
   */
  async run(): Promise<PostcopyStats> {
    this.#listen();
    try {
      await this.#startMachine();
      this.#options.onRunning?.();
      this.#backgroundFrom = Math.min(
        this.#backgroundFrom,
        performance.now() + this.#options.backgroundDelayMs,
      );
      await this.#supply();
      await this.#sink.write(Buffer.concat([ramEnd(), endOfStream()]));
      while (this.#shut === undefined) await this.#pause(Number.POSITIVE_INFINITY);
      if (!this.#shut) throw new CryoboxError('machine_failed', 'QEMU could not load all of its memory');
      return this.stats;
    } finally {
      this.#options.socket.destroy();
    }
  }

  #listen(): void {
    const { socket } = this.#options;
    const parser = new ReturnPathParser(this.#source.blocks, {
      onRequest: (request) => {
        if (this.#requests.length >= maxWaitingRequests)
          throw new CryoboxError('machine_failed', `QEMU asked for over ${maxWaitingRequests} pages at once`);
        this.#requests.push(request);
      },
      onShut: (ok) => {
        this.#shut = ok;
      },
    });
    socket.on('data', (data: Buffer) => {
      try {
        parser.feed(data);
      } catch (error) {
        this.#failure ??= error;
      }
      this.#wake();
    });
    socket.on('close', () => {
      this.#failure ??= new CryoboxError('machine_failed', 'QEMU went away before it had all of its memory');
      this.#wake();
    });
  }

  /** Everything until the guest runs: block list, discards, working set, device state. */
  async #startMachine(): Promise<void> {
    const { machineType, deviceSections } = this.#options;
    const { blocks } = this.#source;
    const prefetch = this.#prefetchRanges();
    for (const { block, startPage, pageCount } of prefetch) this.#sent.add(block, startPage, pageCount);
    // Discards come before the working set: with the first one QEMU turns huge pages off, without which each page
    // that is loaded would cost a cleared huge one.
    const discards = blocks.map((block, index) =>
      postcopyDiscard(block, [...this.#sent.missing(index, 0, this.#sent.pages(index))]),
    );
    const start = [
      streamHeader(),
      configuration(machineType),
      openReturnPath(),
      postcopyAdvise(),
      ramSetup(blocks),
    ];
    await this.#sink.write(Buffer.concat([...start, ...discards]));
    for (const { block, ...run } of prefetch) this.#counts.prefetchedPages += await this.#part(block, [run]);
    await this.#encoder.flush();
    await this.#sink.write(postcopyPackage(deviceSections));
  }

  /** The groups around the pages of the working set, each once, in their order. */
  #prefetchRanges(): (PageRange & { block: number })[] {
    // One page always stays out: QEMU must be sent at least one discard.
    const lastPage = this.#sent.pages(0) - 1;
    const seen = new Set<string>();
    return (this.#options.prefetch ?? []).flatMap(({ block, page }) => {
      const range = { block, ...this.#clusterOf(block, page) };
      const key = `${block}:${range.startPage}`;
      const isLast = block === 0 && range.startPage + range.pageCount > lastPage;
      if (seen.has(key) || isLast) return [];
      seen.add(key);
      return [range];
    });
  }

  /** Answers faults, and pushes the rest when it is time, until every page with data is sent. */
  async #supply(): Promise<void> {
    const rest = this.#rest();
    let next = rest.next();
    while (!next.done) {
      this.#throwFailure();
      const request = this.#requests.shift();
      if (request) {
        await this.#answer(request);
        continue;
      }
      const waitMs = this.#backgroundFrom - performance.now();
      if (waitMs > 0) {
        await this.#pause(waitMs);
        continue;
      }
      const sent = await this.#send(next.value.block, next.value, 'backgroundPages');
      const costMs = (sent * PAGE_BYTES * 1000) / this.#options.backgroundBytesPerSecond;
      this.#backgroundFrom = Math.max(this.#backgroundFrom + costMs, performance.now() - 100);
      next = rest.next();
    }
  }

  async #answer({ block, page, count }: PageRequest): Promise<void> {
    for (let at = page; at < page + count; at += 1) {
      if (this.#sent.has(block, at)) continue;
      this.#faults.push({ block, page: at });
      await this.#send(block, { startPage: at, pageCount: 1 }, 'answeredPages', false);
      await this.#send(block, this.#clusterOf(block, at), 'answeredPages');
    }
  }

  /** Pieces of memory that hold data, in address order; what has been sent meanwhile is left out by #send. */
  *#rest(): Generator<PageRange & { block: number }> {
    for (const [block, { sizeBytes }] of this.#source.blocks.entries()) {
      for (const { startPage, pageCount } of this.#source.dataRanges(block, 0, sizeBytes / PAGE_BYTES)) {
        for (let done = 0; done < pageCount; done += backgroundPages) {
          const count = Math.min(backgroundPages, pageCount - done);
          yield { block, startPage: startPage + done, pageCount: count };
        }
      }
    }
  }

  /** Sends the pages of a range that have not been sent. Returns the number with data. */
  async #send(
    block: number,
    range: PageRange,
    counter: 'answeredPages' | 'backgroundPages',
    flush = true,
  ): Promise<number> {
    const runs = [...this.#sent.missing(block, range.startPage, range.startPage + range.pageCount)];
    for (const run of runs) this.#sent.add(block, run.startPage, run.pageCount);
    const pages = runs.length > 0 ? await this.#part(block, runs) : 0;
    if (flush) await this.#encoder.flush();
    this.#counts[counter] += pages;
    return pages;
  }

  /** Encodes runs of pages as one part of the RAM section. Returns the number with data. */
  async #part(block: number, runs: readonly PageRange[]): Promise<number> {
    const ram = this.#source.blocks[block] as RamBlock;
    let pages = 0;
    this.#encoder.begin();
    await this.#encoder.raw(ramPartStart());
    for (const run of runs) pages += await this.#encode(ram, block, run);
    await this.#encoder.raw(ramPartEnd());
    return pages;
  }

  async #encode(ram: RamBlock, block: number, run: PageRange): Promise<number> {
    let page = run.startPage;
    let pages = 0;
    for (const data of this.#source.dataRanges(block, run.startPage, run.pageCount)) {
      await this.#zeros(ram, page, data.startPage - page);
      const target = this.#buffer.subarray(0, data.pageCount * PAGE_BYTES);
      await this.#source.read(block, data.startPage, data.pageCount, target);
      await this.#encoder.pages(ram, data.startPage, data.pageCount, target);
      pages += data.pageCount;
      page = data.startPage + data.pageCount;
    }
    await this.#zeros(ram, page, run.startPage + run.pageCount - page);
    return pages;
  }

  async #zeros(ram: RamBlock, page: number, count: number): Promise<void> {
    await this.#encoder.zeros(ram, page, count);
    this.#counts.zeroPages += count;
  }

  #clusterOf(block: number, page: number): PageRange {
    const size = this.#options.clusterPages;
    const startPage = page - (page % size);
    return { startPage, pageCount: Math.min(size, this.#sent.pages(block) - startPage) };
  }

  /** Waits until something arrives, or `ms` have passed. */
  async #pause(ms: number): Promise<void> {
    this.#throwFailure();
    const timer = new AbortController();
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const waits = [woken];
    if (Number.isFinite(ms)) waits.push(sleep(Math.ceil(ms), undefined, { signal: timer.signal }));
    const timeout = waits[1];
    timeout?.catch(() => undefined);
    await Promise.race(waits);
    timer.abort();
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined && this.#shut !== true)
      throw wrapHostError(this.#failure, 'supplying memory', 'machine_failed');
  }
}
