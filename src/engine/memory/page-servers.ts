import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../base/log.js';
import { CryoboxError, messageOf } from '../../errors.js';
import { identify, isAlive, killProcess, type ProcessIdentity } from '../../machine/index.js';
import { type PageServer, startPageServer } from '../../memory/index.js';
import type { PoolOptions } from '../machines/pool.js';
import type { Scratch, ScratchPlace } from '../scratch.js';

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
      if (!(await isAlive(next.process))) continue;
      await rename(next.logPath, logPath);
      await next.folder[Symbol.asyncDispose]();
      return next;
    }
    return await start(logPath);
  }

  /** Keeps one waiting for a while; called when a box has come up, so that it does not compete with it. */
  refill(): void {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => void this.#empty(), this.#options.idleMs).unref();
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

  async #fill(): Promise<void> {
    try {
      const folder = await this.#scratch.take();
      const logPath = join(folder.path, 'pager.log');
      this.#waiting.push({ ...(await start(logPath)), folder, logPath });
    } catch (error) {
      this.#logger.warn('cannot start a waiting page server', { reason: messageOf(error) });
    }
  }

  async #empty(): Promise<void> {
    clearTimeout(this.#idleTimer);
    for (const { process, folder } of this.#waiting.splice(0)) {
      await killProcess(process);
      await folder[Symbol.asyncDispose]();
    }
  }
}

async function start(logPath: string): Promise<StartedPageServer> {
  const server = await startPageServer({ logPath });
  const process = await identify(server.pid);
  if (!process) throw new CryoboxError('machine_failed', 'the page server ended at once');
  return { server, process };
}
