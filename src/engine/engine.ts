import type { BoxActivity, Runtime } from '../api/index.js';

import { type Logger, silentLogger } from '../base/log.js';
import { KeyedMutex } from '../base/mutex.js';
import { messageOf } from '../errors.js';
import { type Database, findBox, GroupCommit, hasBoxToRemove, openDatabase } from '../store/index.js';
import { surfaceOf } from '../surface/surface.js';
import type { EngineContext } from './boxes/context.js';
import { endIdleBox } from './boxes/idle.js';
import { BoxInfos } from './boxes/infos.js';
import { endRun } from './boxes/lifetime.js';
import { recover } from './boxes/recovery.js';
import { SeriesKeeper } from './boxes/series.js';
import { closeEngine } from './close.js';
import { openPort } from './commands/use.js';
import { Activity } from './core/activity.js';
import { Counters } from './core/counters.js';
import { Deadlines } from './core/deadlines.js';
import { Events } from './core/events.js';
import { type HomePaths, homePaths } from './core/home.js';
import { homeWarning, prepareHome } from './core/home-directory.js';
import { IdempotencyKeys } from './core/idempotency.js';
import { ImportRoom } from './core/import-room.js';
import { Limits } from './core/limits.js';
import { type HomeLock, lockHome } from './core/lock.js';
import { Previews } from './core/previews.js';
import { PublishedPorts } from './core/published-ports.js';
import { Vault } from './core/vault.js';
import { Work } from './core/work.js';
import { followedRuntime } from './followed.js';
import { ImageStore } from './images/store.js';
import { GarbageCollector } from './layers/gc.js';
import { LayerHasher } from './layers/hasher.js';
import { LayerFiles } from './layers/layer-files.js';
import { MemoryMerger } from './layers/merger.js';
import { Scratch } from './layers/scratch.js';
import { Flattener } from './machines/flattener.js';
import { MachineGarbage } from './machines/garbage.js';
import { Goldens } from './machines/golden.js';
import { HotMachines } from './machines/hot.js';
import { hotSizeOf } from './machines/hot-size.js';
import { Interception } from './machines/interception.js';
import { LiveBoxes } from './machines/live.js';
import { PageServers } from './machines/page-servers.js';
import { PartsByArchitecture } from './machines/parts.js';
import { MachinePool } from './machines/pool.js';
import { type ReplicateOptions, Replicator } from './replicas/replicator.js';
import { EngineRuntime } from './runtime.js';
import { VolumeClaims } from './volumes/claims.js';

/** How an engine is opened. */
export interface EngineOptions {
  readonly home: string;
  /** @default says nothing */
  readonly logger?: Logger;
  /** Waiting machines per shape in use. @default 1 */
  readonly poolSize?: number;
  /**
   * Machines per shape in use that have rehearsed the start of a box; none with `poolSize: 0`.
   * All together have at most a share of the host's memory (docs/decisions/230-hot-machines.md).
   * @default `CRYOBOX_HOT_MACHINES`, else 0
   */
  readonly hotSize?: number;
  /** Milliseconds after which an unused shape gives its waiting machines up. @default 600000 */
  readonly poolIdleMs?: number;
  /** Shapes (processors and memory) of which the home keeps a golden machine; more are refused. @default 32 */
  readonly maxGoldens?: number;
  /** Copies what stands still to an object store, in the background. @default to none */
  readonly replicate?: ReplicateOptions;
}

/** How a runtime of an engine is used. */
interface RuntimeOptions {
  /** Runs last when the runtime is closed. */
  readonly onClose?: () => Promise<void>;
  /**
   * For callers that are no users of this host: they pull from the public internet, and from these registries wherever
   * they are, `host` or `host:port`. Absent: from everywhere.
   */
  readonly allowedRegistries?: readonly string[];
  /** Whether using a box that does not run starts or resumes it, as its `autoResume` allows. @default true */
  readonly wakes?: boolean;
}

const defaultPool = { size: 1, idleMs: 600_000 };

/** The process that owns a home: its database, layers and machines. */
export class Engine implements AsyncDisposable {
  /** Keys of requests that may be sent again, for servers. */
  readonly idempotency: IdempotencyKeys;
  readonly #ctx: EngineContext;
  readonly #lock: HomeLock;
  #closed: Promise<void> | undefined;

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
    const warning = await homeWarning(paths);
    if (warning) options.logger?.warn(warning);
    const lock = await lockHome(paths.lock);
    let letGo = async (): Promise<void> => undefined;
    try {
      const db = await openDatabase(paths.database);
      letGo = () => db.destroy();
      const ctx = await assemble(options, paths, db);
      letGo = () => closeEngine(ctx);
      await recover(ctx);
      ctx.series.start();
      await ctx.replicator?.start();
      return new Engine(ctx, lock);
    } catch (error) {
      await letGo().finally(() => lock.release());
      throw error;
    }
  }

  /** Where everything of the home is. */
  get paths(): HomePaths {
    return this.#ctx.paths;
  }

  /**
   * Everything the engine does, for one tenant; the owner of the home is the tenant with the empty name.
   */
  runtime(tenant = '', { onClose, ...limits }: RuntimeOptions = {}): Runtime {
    const ctx: EngineContext = { ...this.#ctx, ...limits };
    return surfaceOf(followedRuntime(new EngineRuntime(ctx, tenant, onClose), ctx, tenant));
  }

  /** Whose box that is, by its id; undefined when there is none. */
  async tenantOf(boxId: string): Promise<string | undefined> {
    return (await findBox(this.#ctx.db, boxId))?.tenant;
  }

  /** Ids of the boxes that run now, whosever they are. */
  runningBoxes(): string[] {
    return this.#ctx.live.all().map(({ boxId }) => boxId);
  }

  /** Addresses of ports of boxes, for a server of REST. */
  get previews(): Previews {
    return this.#ctx.previews;
  }

  /** Whether nothing runs, nothing is under way, no port of a box is published, and no box is to be removed when its time has come. */
  async isIdle(): Promise<boolean> {
    const { live, activities, db, ports } = this.#ctx;
    if ([...live.all()].length > 0 || activities.size > 0 || ports.isUsed) return false;
    return !(await hasBoxToRemove(db));
  }

  /**
   * Keeps so many hot machines per shape in use from now on. Those beyond have ended when this returns; those that lack are
   * made in the background.
   */
  async keepHot(hotSize: number): Promise<void> {
    await this.#ctx.hot.resize(await hotSizeOf({ hotSize }));
  }

  /** What is under way on boxes. */
  underWay(): string[] {
    return [...this.#ctx.activities.values()];
  }

  /**
   * Lets go of the home: nothing begins any more and fails with `engine_unavailable`, what changes something comes to its
   * end or is rolled back, commands are left alone. Machines of boxes go on; an engine opened later takes them over. Calls
   * after the first wait for the same end. The lock is let go of last, and in any case.
   */
  close(): Promise<void> {
    this.#closed ??= closeEngine(this.#ctx).finally(() => this.#lock.release());
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function assemble(options: EngineOptions, paths: HomePaths, db: Database): Promise<EngineContext> {
  const logger = options.logger ?? silentLogger;
  const parts = await PartsByArchitecture.open({ paths, logger });
  const layers = new LayerFiles(paths.layers);
  const commits = new GroupCommit(db);
  const scratch = new Scratch(paths.scratch);
  const limits = new Limits({ db, directory: paths.root });
  const needs = { paths, db, commits, layers, limits, parts, logger };
  const images = new ImageStore({ ...needs, scratch });
  const pool = {
    size: options.poolSize ?? defaultPool.size,
    idleMs: options.poolIdleMs ?? defaultPool.idleMs,
  };
  const state = { live: new LiveBoxes(), activities: new Map<string, BoxActivity>() };
  const goldens = new Goldens({ ...needs, idleMs: pool.idleMs, maxGoldens: options.maxGoldens });
  const machinePool = new MachinePool(needs, pool);
  const machineGarbage = new MachineGarbage(needs);
  const ctx: EngineContext = {
    ...needs,
    replicator: options.replicate && new Replicator(() => ctx, options.replicate),
    goldens,
    pool: machinePool,
    machineGarbage,
    hot: new HotMachines(
      { pool: machinePool, scratch, logger, idleMs: pool.idleMs },
      await hotSizeOf(options),
    ),
    pageServers: new PageServers(scratch, logger, pool),
    ...state,
    infos: new BoxInfos({
      ...needs,
      ...state,
      lastUsedAt: (id) => ctx.activity.lastUsedAt(id),
      durabilityOf: (stamp, hasVolumes) => ctx.replicator?.durabilityOf(stamp, hasVolumes) ?? 'local',
      portsOf: (id) => ctx.ports.of(id),
    }),
    ports: new PublishedPorts({
      ...needs,
      connect: (boxId, port, gone) =>
        ctx.work.run('use', (signal) => openPort(ctx, boxId, port, { signal }), gone),
    }),
    previews: new Previews(needs),
    vault: new Vault(paths),
    interception: new Interception({ paths, logger }),
    merger: new MemoryMerger(() => ctx),
    boxLocks: new KeyedMutex(),
    gc: new GarbageCollector({
      db,
      layers,
      paths,
      scratch,
      images: images.contents,
      machines: machineGarbage,
      goldens,
      assets: () => parts.files(),
      logger,
    }),
    scratch,
    flattener: new Flattener(() => ctx),
    hasher: new LayerHasher({ db, layers, logger }),
    imports: new ImportRoom(),
    images,
    volumes: new VolumeClaims(db),
    counters: new Counters(db, logger),
    activity: new Activity({
      ...needs,
      isRunning: (boxId) => state.live.get(boxId) !== undefined,
      endIdle: (boxId) => endIdleBox(ctx, boxId),
    }),
    runEnds: new Deadlines({
      dueAt: (boxId) => state.live.get(boxId)?.endsAt,
      run: (boxId) => endRun(ctx, boxId),
      failed: (boxId, error, retryMs) =>
        logger.warn('cannot end a run that is over', { box: boxId, reason: messageOf(error), retryMs }),
    }),
    series: new SeriesKeeper({ ...state, logger }),
    events: new Events(),
    work: new Work(),
    closing: new AbortController(),
  };
  return ctx;
}
