import { link, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ifExists, writeFileDurably } from '../../base/files.js';
import { inBackground } from '../../base/in-background.js';
import type { Logger } from '../../base/log.js';
import { Mutex } from '../../base/mutex.js';
import { errnoOf, messageOf } from '../../errors.js';
import {
  type Authority,
  type InterceptedSecret,
  Interceptor,
  type InterceptorRefusal,
  interceptorSocket,
} from '../../interceptor/index.js';
import { newMachineUser } from '../../machine/index.js';
import type { Gateway } from '../../network/index.js';
import type { HomePaths } from '../core/home.js';

/** One that ended is started again after 0.1 s, then twice as long each time. */
const firstRetryMs = 100;
const maxRetryMs = 5_000;
/** One that has run for so long ended for another reason than the one before it. */
const steadyMs = 30_000;
/** How long it stays when no box needs it: boxes come and go. */
const idleMs = 30_000;

/** A running box whose requests get values. */
interface Served {
  readonly directory: string;
  readonly gateway: Gateway;
  readonly secrets: readonly InterceptedSecret[];
  readonly roots: readonly string[] | null;
}

/** Keeps the process that puts secrets in, as long as boxes need it: one for all boxes of a home. */
export class Interception {
  readonly #paths: HomePaths;
  readonly #logger: Logger;
  readonly #served = new Map<string, Served>();
  /** Its starts and ends, one after the other. */
  readonly #turn = new Mutex();
  #process: Interceptor | undefined;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  constructor({ paths, logger }: { readonly paths: HomePaths; readonly logger: Logger }) {
    this.#paths = paths;
    this.#logger = logger;
  }

  /**
   * Has requests of a machine get values from now on, in place of those that it had before. Throws `machine_failed`,
   * `resource_exhausted`.
   */
  async serve(served: Served): Promise<void> {
    const { gateway } = served;
    const isNew = !this.#served.has(gateway.token);
    this.#served.set(gateway.token, served);
    // It ends with its machine.
    if (isNew) inBackground(this.#untilEnd(gateway), 'forget the secrets of a box', this.#logger);
    const process = await this.#turn.run(() => this.#ensure());
    if (process) await give(process, served);
  }

  /** Has requests of a machine get no values any more. */
  forget({ token }: Pick<Gateway, 'token'>): void {
    if (!this.#served.delete(token)) return;
    this.#process?.order({ forget: token });
    if (this.#served.size > 0) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      const end = this.#turn.run(() => this.#endIdle());
      inBackground(end, 'end the process that puts secrets in', this.#logger);
    }, idleMs).unref();
  }

  /** The certificate that boxes with secrets have to trust, as PEM. */
  async certificate(): Promise<string> {
    return (await this.#turn.run(() => this.#authority())).certificate;
  }

  /** Ends it: until the next engine comes requests with secrets are refused. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    await this.#turn.run(async () => {
      await this.#process?.end();
    });
  }

  async #untilEnd(gateway: Gateway): Promise<void> {
    await gateway.exited;
    this.forget(gateway);
  }

  async #ensure(): Promise<Interceptor | undefined> {
    if (this.#closed) return undefined;
    this.#process ??= await this.#start();
    return this.#process;
  }

  async #endIdle(): Promise<void> {
    if (this.#served.size > 0) return;
    const process = this.#process;
    this.#process = undefined;
    await process?.end();
  }

  async #start(): Promise<Interceptor> {
    const authority = await this.#authority();
    const started = await Interceptor.start({
      directory: this.#paths.interceptor,
      authority,
      user: await newMachineUser('tcg'),
      onRefusal: (refusal) => this.#note(refusal),
    });
    const since = performance.now();
    inBackground(this.#restart(started, since), 'start the process that puts secrets in', this.#logger);
    return started;
  }

  /** Starts another one when it ended by itself: meanwhile what is meant for it is refused. */
  async #restart(ended: Interceptor, since: number): Promise<void> {
    await ended.exited;
    if (this.#closed || this.#process !== ended) return;
    this.#process = undefined;
    this.#logger.warn('the process that puts secrets in has ended', {});
    const isSteady = performance.now() - since > steadyMs;
    for (
      let waitMs = isSteady ? firstRetryMs : 5 * firstRetryMs;
      ;
      waitMs = Math.min(2 * waitMs, maxRetryMs)
    ) {
      await delay(waitMs, undefined, { ref: false });
      if (this.#closed || this.#served.size === 0) return;
      try {
        const process = await this.#turn.run(() => this.#ensure());
        if (process) for (const served of [...this.#served.values()]) await give(process, served);
        return;
      } catch (error) {
        this.#logger.error('cannot start the process that puts secrets in', { reason: messageOf(error) });
      }
    }
  }

  #note({ token, reason, name, port }: InterceptorRefusal): void {
    const gateway = this.#served.get(token)?.gateway;
    if (gateway) inBackground(gateway.refused({ reason, name, port }), 'note a refusal', this.#logger);
  }

  async #authority(): Promise<Authority> {
    const { authority, authorityKey } = this.#paths;
    const [certificate, key] = await Promise.all(
      [authority, authorityKey].map((path) => ifExists(readFile(path, 'utf8'))),
    );
    if (certificate !== undefined && key !== undefined) return { certificate, key };
    // Only who has secrets needs the library.
    const { newAuthority } = await import('../../interceptor/certificates.js');
    const made = await newAuthority();
    await writeFileDurably(authorityKey, made.key, 0o600);
    await writeFileDurably(authority, made.certificate, 0o644);
    return made;
  }
}

/** Tells it what a box has, and puts its socket where the box's gateway finds it. */
async function give(process: Interceptor, { directory, gateway, secrets, roots }: Served): Promise<void> {
  process.order({ serve: gateway.token, secrets, roots });
  const path = join(directory, interceptorSocket);
  const fresh = `${path}.new`;
  try {
    await rm(fresh, { force: true });
    await link(process.socketPath, fresh);
    await rename(fresh, path);
    // Renaming one link of a file over another one of it does nothing.
    await rm(fresh, { force: true });
  } catch (error) {
    // The machine has ended meanwhile, or the process has, and the next one does this again.
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}
