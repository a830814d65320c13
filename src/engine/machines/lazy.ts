import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { inBackground } from '../../base/in-background.js';
import { CryoboxError, isErrorCode, messageOf, wrapHostError } from '../../errors.js';
import {
  type Card,
  identify,
  killProcess,
  loadLazily,
  type Machine,
  type ProcessIdentity,
} from '../../machine/index.js';
import { type PageServer, readPageServerLog } from '../../memory/index.js';
import type { LayerRow } from '../../store/index.js';
import { memoryPaths } from '../layers/memory-layers.js';
import { newWorkingSet, publishWorkingSet } from '../layers/working-set.js';
import type { MachinesContext } from './context.js';
import type { Pager } from './live.js';
import type { StartedPageServer } from './page-servers.js';
import { pagerLogPath } from './pager-process.js';
import type { StateSource } from './restore.js';
import type { OpenedMemory } from './source.js';

/** A box that nobody uses after its resume gets the rest of its memory all the same. */
const settleAfterMs = 10_000;
/** A page server sees at once that its machine is gone; one that does not end is killed. */
const endTimeoutMs = 2_000;

/** A page server and the machine it supplies. */
export interface LazySource extends StateSource {
  /** The server's process, once `load` has begun. */
  process(): ProcessIdentity;
  readonly pager: Pager;
  /** Resolves when the server has ended: with nothing when the machine has all its memory, else with the reason. */
  readonly ended: Promise<string | undefined>;
  /** Whether it was lost before the box came into use; the machine has been killed then. */
  wasLostEarly(): boolean;
}

/** Memory of its own, supplied on demand by a page server in a process of its own. */
export function lazySource(
  ctx: MachinesContext,
  opened: OpenedMemory,
  options: { readonly boxId: string; readonly card: Card },
): LazySource {
  const logPath = pagerLogPath(ctx, options.boxId);
  let started: StartedPageServer | undefined;
  let end: (reason: string | undefined) => void = () => undefined;
  const ended = new Promise<string | undefined>((resolve) => {
    end = resolve;
  });
  let timer: NodeJS.Timeout | undefined;
  let settled = false;
  let lostEarly = false;
  const pager: Pager = {
    settle: () => {
      clearTimeout(timer);
      if (!settled && started)
        inBackground(signal(started.process), 'tell a page server to supply the rest', ctx.logger);
      settled = true;
    },
    end: async () => {
      const late = setTimeout(() => {
        if (started) inBackground(killProcess(started.process), 'end a page server', ctx.logger);
      }, endTimeoutMs);
      await ended;
      clearTimeout(late);
    },
    hasSupplied: async () => {
      await pager.end();
      return (await ended) === undefined;
    },
  };
  return {
    pager,
    ended,
    wasLostEarly: () => lostEarly,
    process: () => {
      if (!started) throw new CryoboxError('internal', 'a page server was not started');
      return started.process;
    },
    acquire: async () => {
      await makeRoom(logPath);
      const { shape, accelerator } = opened.golden;
      const spec = { shape, accelerator, baseLayer: null, card: options.card };
      const [waiting, server] = await Promise.allSettled([
        ctx.pool.take(spec),
        ctx.pageServers.take(logPath),
      ]);
      if (server.status === 'fulfilled') started = server.value;
      if (waiting.status === 'fulfilled' && server.status === 'fulfilled') return waiting.value;
      if (waiting.status === 'fulfilled') await ctx.pool.giveUp(waiting.value);
      if (started) await killProcess(started.process);
      throw waiting.status === 'rejected' ? waiting.reason : (server as PromiseRejectedResult).reason;
    },
    load: async (machine) => {
      if (!started) throw new CryoboxError('internal', 'a page server was not started');
      const { server } = started;
      const record = await newWorkingSet(ctx, opened.memory);
      const config = await configOf(ctx, opened, record);
      const supplied = { memoryId: opened.memory.id, boxId: options.boxId };
      const watched = watchServer(ctx, server, machine, { logPath, supplied, record }).catch(
        (error: unknown) => `the page server ended, and it cannot be told how: ${messageOf(error)}`,
      );
      const over = watched.then((reason) => {
        clearTimeout(timer);
        const inUse = ctx.live.all().some((live) => live.machine === machine);
        lostEarly = reason !== undefined && !inUse;
        if (lostEarly) inBackground(killProcess(machine.process), 'end a machine without memory', ctx.logger);
        end(reason);
        return reason;
      });
      const loaded = loadLazily(machine.qmp, machine.directory, (socketPath) =>
        server.serve({ ...config, socketPath }),
      );
      const failed = over.then(async (reason) => {
        if (reason !== undefined) throw await failureIn(logPath, reason);
        await loaded;
      });
      await Promise.race([loaded, failed]);
      failed.catch(() => undefined);
      timer = setTimeout(pager.settle, settleAfterMs).unref();
    },
  };
}

async function makeRoom(logPath: string): Promise<void> {
  try {
    await mkdir(join(logPath, '..'), { recursive: true, mode: 0o700 });
    await rm(logPath, { force: true });
  } catch (error) {
    throw wrapHostError(error, 'preparing the log of a page server');
  }
}

type Config = Omit<Parameters<PageServer['serve']>[0], 'socketPath'>;

async function configOf(
  ctx: MachinesContext,
  { memory, image }: OpenedMemory,
  record: LayerRow | undefined,
): Promise<Config> {
  const paths = await memoryPaths(ctx, ctx.db, image.map.layers);
  return {
    machineType: memory.machine_type,
    layerId: memory.layer_id,
    layers: Object.fromEntries(paths),
    deviceStatePath: ctx.layers.path(memory.state_layer),
    ...(memory.working_set === null ? {} : { workingSetPath: ctx.layers.path(memory.working_set) }),
    ...(record ? { recordPath: ctx.layers.path(record.id) } : {}),
  };
}

interface Watched {
  readonly logPath: string;
  readonly supplied: { readonly memoryId: string; readonly boxId: string };
  readonly record: LayerRow | undefined;
}

/** Waits for the server's end. A machine without its server waits for memory for ever: it is killed. */
async function watchServer(
  ctx: MachinesContext,
  server: PageServer,
  machine: Machine,
  { logPath, supplied, record }: Watched,
): Promise<string | undefined> {
  const code = await server.exited.catch(() => null);
  if (record && !ctx.closing.signal.aborted) {
    await publishWorkingSet(ctx, supplied, record).catch((error: unknown) => {
      ctx.logger.warn('cannot keep a working set', { memory: supplied.memoryId, reason: String(error) });
    });
  }
  if (code === 0) return undefined;
  if (!(await machine.isAlive())) return 'the machine ended';
  const said = (await readPageServerLog(logPath)).findLast((event) => event.event === 'failed');
  return `the page server ended: ${said?.event === 'failed' ? said.message : 'it was killed'}`;
}

async function failureIn(logPath: string, reason: string): Promise<CryoboxError> {
  const said = (await readPageServerLog(logPath)).findLast((event) => event.event === 'failed');
  const code = said?.event === 'failed' && isErrorCode(said.code) ? said.code : 'machine_failed';
  return new CryoboxError(code, reason);
}

async function signal(target: ProcessIdentity): Promise<void> {
  if ((await identify(target.pid))?.startTicks !== target.startTicks) return;
  try {
    process.kill(target.pid, 'SIGUSR2');
  } catch {
    // It has ended in between: there is nothing left to supply.
  }
}
