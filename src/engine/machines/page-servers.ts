import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { endProcess, identify, isAlive, type ProcessIdentity } from '../../machine/index.js';
import { type PageServer, startPageServer } from '../../memory/index.js';
import type { Scratch, ScratchPlace } from '../layers/scratch.js';
import type { PoolOptions } from './pool.js';

/** A page server that has loaded itself and has no work yet. */
export interface StartedPageServer {
  readonly server: PageServer;
  readonly process: ProcessIdentity;
}

interface Waiting extends StartedPageServer {
  readonly folder: ScratchPlace;
  readonly logPath: string;
}

/** Page servers that wait for work: starting one takes about as long as all the rest of a lazy resume. */
export class PageServers {
  readonly #scratch: Scratch;
  readonly #logger: Logger;
  readonly #options: PoolOptions;
  readonly #waiting: Waiting[] = [];
  #filling: Promise<void> | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(scratch: Scratch, logger: Logger, options: PoolOptions) {
    this.#scratch = scratch;
    this.#logger = logger;
    this.#options = options;
  }

  /** One that waits, or one started now; what it says goes to the file `logPath`. Throws `machine_failed`. */
  async take(logPath: string): Promise<StartedPageServer> {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      if (await this.#handOver(next, logPath)) return next;
    }
    return await start(logPath);
  }

  /** Keeps one waiting for a while; called when a box has come up, so that it does not compete with it. */
  refill(): void {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => {
      inBackground(this.#empty(), 'end a page server that waits', this.#logger);
    }, this.#options.idleMs).unref();
    if (this.#closed || this.#filling || this.#options.size === 0 || this.#waiting.length > 0) return;
    this.#filling = this.#fill().finally(() => {
      this.#filling = undefined;
    });
  }

  /** Ends those that wait. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#filling;
    await this.#empty();
  }

  /** Moves the log of one that waits to where it is looked for. One that cannot be used is ended. */
  async #handOver(waiting: Waiting, logPath: string): Promise<boolean> {
    try {
      if (!(await isAlive(waiting.process))) throw new CryoboxError('machine_failed', 'it has ended');
      await rename(waiting.logPath, logPath);
      await waiting.folder[Symbol.asyncDispose]();
      return true;
    } catch (error) {
      this.#logger.warn('cannot use a waiting page server', { reason: messageOf(error) });
      await this.#discard(waiting);
      return false;
    }
  }

  async #fill(): Promise<void> {
    let folder: ScratchPlace | undefined;
    try {
      folder = await this.#scratch.take();
      const logPath = join(folder.path, 'pager.log');
      this.#waiting.push({ ...(await start(logPath)), folder, logPath });
    } catch (error) {
      this.#logger.warn('cannot start a waiting page server', { reason: messageOf(error) });
      await this.#letGo(folder);
    }
  }

  async #empty(): Promise<void> {
    clearTimeout(this.#idleTimer);
    for (const waiting of this.#waiting.splice(0)) await this.#discard(waiting);
  }

  async #discard({ process, folder }: Waiting): Promise<void> {
    await endProcess(process).catch((error: unknown) => {
      this.#logger.warn('cannot end a page server', { reason: messageOf(error) });
    });
    await this.#letGo(folder);
  }

  async #letGo(folder: ScratchPlace | undefined): Promise<void> {
    try {
      await folder?.[Symbol.asyncDispose]();
    } catch (error) {
      this.#logger.warn('cannot remove the folder of a page server', { reason: messageOf(error) });
    }
  }
}

async function start(logPath: string): Promise<StartedPageServer> {
  const server = await startPageServer({ logPath });
  try {
    const process = await identify(server.pid);
    if (!process) throw new CryoboxError('machine_failed', 'the page server ended at once');
    return { server, process };
  } catch (error) {
    // Nobody else knows of it yet.
    server.kill();
    throw error;
  }
}
