import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isCryoboxError, messageOf } from '../errors.js';
import { AgentClient } from '../guest/index.js';
import {
  hostBootId,
  isAlive,
  killProcess,
  Machine,
  type MachineUser,
  machineFiles,
  QmpClient,
} from '../machine/index.js';
import type { BoxRow, MachineRow } from '../store/index.js';
import { armTimers } from './boxes/idle.js';
import { updateBox } from './boxes/rows.js';
import { removeBox } from './boxes/stop.js';
import { watchMachine } from './boxes/watch.js';
import type { EngineContext } from './context.js';
import { reconcileHeads } from './disks/reconcile.js';
import { repairLayers } from './disks/repair.js';
import { newLiveBox } from './live.js';
import { adoptedPager, pagerOf, watchPager } from './memory/adopt-pager.js';
import { repause } from './memory/lost.js';
import { letGoOfMerged } from './memory/merger.js';
import { hasSupplied, pagerState } from './memory/pager-process.js';

/** An agent answers at once unless its machine was left standing still or is overloaded. */
const adoptTimeoutMs = 15_000;

/** Brings a home that an earlier engine left, however it ended, into a true state. */
export async function recover(ctx: EngineContext): Promise<void> {
  await ctx.scratch.clear();
  const adopted = await adoptMachines(ctx);
  await endUnknownMachines(ctx, adopted);
  await repairLayers(ctx);
  await letGoOfMerged(ctx);
  await ctx.goldens.dropStale();
  for (const row of await ctx.db.selectFrom('boxes').selectAll().execute()) await settleBox(ctx, row);
  ctx.gc.soon();
  ctx.hasher.soon();
}

/** Takes over the machines of boxes; ends those that waited in the pool. Returns the ids of those taken over. */
async function adoptMachines(ctx: EngineContext): Promise<Set<string>> {
  const thisBoot = await hostBootId();
  const adopted = new Set<string>();
  for (const row of await ctx.db.selectFrom('machines').selectAll().execute()) {
    const process = { pid: row.pid, startTicks: row.start_ticks };
    const lives = row.host_boot === thisBoot && (await isAlive(process));
    if (lives && row.box_id !== null && (await adopt(ctx, row, row.box_id))) {
      adopted.add(row.id);
      continue;
    }
    if (lives) await killProcess(process);
    else if (row.host_boot === thisBoot) await putBack(ctx, row);
    await ctx.db.deleteFrom('machines').where('id', '=', row.id).execute();
  }
  return adopted;
}

async function adopt(ctx: EngineContext, row: MachineRow, boxId: string): Promise<boolean> {
  const box = await ctx.db.selectFrom('boxes').selectAll().where('id', '=', boxId).executeTakeFirst();
  if (box?.status !== 'running') return false;
  const user: MachineUser | undefined =
    row.uid === null ? undefined : { uid: row.uid, gid: row.gid ?? row.uid };
  const server = pagerOf(row);
  const supply = server && (await pagerState(ctx, boxId, server));
  if (supply === 'lost') {
    await repause(ctx, boxId, row.memory_id ?? '', 'the page server ended while no engine was there');
    return false;
  }
  try {
    const process = { pid: row.pid, startTicks: row.start_ticks };
    const machine = await Machine.adopt(join(ctx.paths.machines, row.id), process, user);
    // The earlier engine may have ended while the machine stood still for it.
    await machine.run();
    const agent = await AgentClient.connect({ socketPath: machine.agentSocket, timeoutMs: adoptTimeoutMs });
    // It may also have ended while the guest was frozen for a snapshot.
    await agent.system.thaw().catch(ignoreNotFrozen);
    const pager = server && supply === 'alive' ? adoptedPager(ctx, boxId, server) : undefined;
    const memory = { baseLayer: row.base_layer, memoryId: row.memory_id, pager };
    const live = newLiveBox({ boxId, machineId: row.id, machine, agent, run: agent.hello.run ?? '', memory });
    await reconcileHeads(ctx, live, box);
    ctx.live.set(live);
    watchMachine(ctx, live);
    if (pager && server) watchPager(ctx, live, server);
    return true;
  } catch (error) {
    ctx.logger.warn('cannot take over a machine', { box: boxId, reason: messageOf(error) });
    return false;
  }
}

/** A box whose machine ended before it had all of its memory goes back to that memory. */
async function putBack(ctx: EngineContext, row: MachineRow): Promise<void> {
  const server = pagerOf(row);
  if (!server || row.box_id === null || row.memory_id === null) return;
  if (await hasSupplied(ctx, row.box_id, server)) return;
  await repause(ctx, row.box_id, row.memory_id, 'the machine ended while no engine was there');
}

function ignoreNotFrozen(error: unknown): void {
  if (!isCryoboxError(error, 'invalid_state')) throw error;
}

/** Ends machines that were started but never recorded, and removes what ended ones left. */
async function endUnknownMachines(ctx: EngineContext, adopted: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(ctx.paths.machines)) {
    if (adopted.has(name)) continue;
    const directory = join(ctx.paths.machines, name);
    await quitMachine(join(directory, machineFiles.qmpSocket));
    await rm(directory, { recursive: true, force: true });
  }
}

async function quitMachine(qmpSocket: string): Promise<void> {
  const qmp = await QmpClient.connect(qmpSocket).catch(() => undefined);
  if (!qmp) return;
  await qmp.execute('quit').catch(() => undefined);
  await qmp.closed;
}

async function settleBox(ctx: EngineContext, row: BoxRow): Promise<void> {
  if (row.status === 'configured') {
    // Its creation never ended, so nobody was told of it.
    await removeBox(ctx, row);
    return;
  }
  const lost = (row.status === 'running' || row.status === 'stopping') && !ctx.live.get(row.id);
  if (lost) {
    const status = row.status === 'stopping' ? 'stopped' : 'failed';
    const failure = status === 'failed' ? 'its machine was gone when the engine started' : null;
    await updateBox(ctx, row.id, { status, failure });
  }
  armTimers(ctx, row);
}
