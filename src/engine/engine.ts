import type { BoxActivity, Runtime } from '../api/index.js';
import { type Logger, silentLogger } from '../base/log.js';
import { KeyedMutex } from '../base/mutex.js';
import { messageOf } from '../errors.js';
import { findQemu } from '../machine/index.js';
import { type Database, GroupCommit, openDatabase } from '../store/index.js';
import { prepareAssets } from './assets.js';
import { idleBoxDue } from './boxes/idle.js';
import { BoxInfos } from './boxes/infos.js';
import type { EngineContext } from './context.js';
import { Counters } from './counters.js';
import { Flattener } from './disks/flattener.js';
import { LayerHasher } from './disks/hasher.js';
import { newChanges } from './events.js';
import { GarbageCollector } from './gc.js';
import { type HomePaths, homePaths, prepareHome } from './home.js';
import { IdempotencyKeys } from './idempotency.js';
import { ImageStore } from './images/store.js';
import { LayerFiles } from './layer-files.js';
import { LiveBoxes } from './live.js';
import { type HomeLock, lockHome } from './lock.js';
import { Goldens } from './machines/golden.js';
import { MachinePool } from './machines/pool.js';
import { MemoryMerger } from './memory/merger.js';
import { PageServers } from './memory/page-servers.js';
import { recover } from './recovery.js';
import { EngineRuntime } from './runtime.js';
import { Scratch } from './scratch.js';
import { IdleTimers } from './timers.js';
import { VolumeClaims } from './volumes/claims.js';

/** How an engine is opened. */
export interface EngineOptions {
  readonly home: string;
  /** @default says nothing */
  readonly logger?: Logger;
  /** Waiting machines per shape in use. @default 1 */
  readonly poolSize?: number;
  /** Milliseconds after which an unused shape gives its waiting machines up. @default 600000 */
  readonly poolIdleMs?: number;
}

const defaultPool = { size: 1, idleMs: 600_000 };

/** The process that owns a home: its database, layers and machines. */
export class Engine implements AsyncDisposable {
  /** Keys of requests that may be sent again, for servers. */
  readonly idempotency: IdempotencyKeys;
  readonly #ctx: EngineContext;
  readonly #lock: HomeLock;

  private constructor(ctx: EngineContext, lock: HomeLock) {
    this.#ctx = ctx;
    this.#lock = lock;
    this.idempotency = new IdempotencyKeys(ctx.db);
  }

  /**
   * Takes a home, repairs what an earlier engine left, and takes over the machines that still run.
   * Throws `home_in_use`, `config_error`, `database_error`.
   */
  static async open(options: EngineOptions): Promise<Engine> {
    const paths = homePaths(options.home);
    await prepareHome(paths);
    const lock = await lockHome(paths.lock);
    let db: Database | undefined;
    try {
      db = await openDatabase(paths.database);
      const ctx = await assemble(options, paths, db);
      await recover(ctx);
      return new Engine(ctx, lock);
    } catch (error) {
      await db?.destroy();
      lock.release();
      throw error;
    }
  }

  /** Where everything of the home is. */
  get paths(): HomePaths {
    return this.#ctx.paths;
  }

  /**
   * Everything the engine does, for one tenant; the owner of the home is the tenant with the empty name.
   * `onClose` runs last when that runtime is closed.
   */
  runtime(tenant = '', options: { readonly onClose?: () => Promise<void> } = {}): Runtime {
    return new EngineRuntime(this.#ctx, tenant, options.onClose);
  }

  /** Whether nothing runs, nothing is under way, and no box is to be removed when its time has come. */
  async isIdle(): Promise<boolean> {
    const { live, activities, db } = this.#ctx;
    if ([...live.all()].length > 0 || activities.size > 0) return false;
    const waiting = await db.selectFrom('boxes').select('id').where('auto_delete', '>', 0).executeTakeFirst();
    return waiting === undefined;
  }

  /** Lets go of the home. Machines of boxes go on; an engine opened later takes them over. */
  async close(): Promise<void> {
    const ctx = this.#ctx;
    if (ctx.closing.signal.aborted) return;
    ctx.closing.abort();
    ctx.timers.close();
    await ctx.pool.close();
    await ctx.pageServers.close();
    await ctx.images.close();
    await ctx.flattener.close();
    await ctx.hasher.close();
    await ctx.merger.close();
    await ctx.gc.close();
    await ctx.counters.flush().catch((error: unknown) => {
      ctx.logger.warn('cannot write the counters', { reason: messageOf(error) });
    });
    for (const live of ctx.live.all()) {
      live.agent.close();
      live.machine.disconnect();
    }
    await ctx.db.destroy();
    this.#lock.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function assemble(options: EngineOptions, paths: HomePaths, db: Database): Promise<EngineContext> {
  const logger = options.logger ?? silentLogger;
  const [qemu, assets] = await Promise.all([findQemu(), prepareAssets(paths)]);
  const layers = new LayerFiles(paths.layers);
  const commits = new GroupCommit(db);
  const scratch = new Scratch(paths.scratch);
  const needs = { paths, db, commits, layers, qemu, assets, logger };
  const images = new ImageStore(needs);
  const pool = {
    size: options.poolSize ?? defaultPool.size,
    idleMs: options.poolIdleMs ?? defaultPool.idleMs,
  };
  const state = { live: new LiveBoxes(), activities: new Map<string, BoxActivity>() };
  const ctx: EngineContext = {
    ...needs,
    goldens: new Goldens(needs),
    pool: new MachinePool(needs, pool),
    pageServers: new PageServers(scratch, logger, pool),
    ...state,
    infos: new BoxInfos({ ...needs, ...state }),
    merger: new MemoryMerger(() => ctx),
    boxLocks: new KeyedMutex(),
    gc: new GarbageCollector({ db, layers, paths, scratch, images: images.contents, logger }),
    scratch,
    flattener: new Flattener(() => ctx),
    hasher: new LayerHasher({ db, layers, logger }),
    images,
    volumes: new VolumeClaims(db),
    counters: new Counters(db, logger),
    timers: new IdleTimers((boxId, what) => idleBoxDue(ctx, boxId, what)),
    events: newChanges(),
    closing: new AbortController(),
  };
  return ctx;
}
