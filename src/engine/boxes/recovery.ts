import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isId } from '../../base/ids.js';
import { ownEntries } from '../../base/own-entries.js';
import { isCryoboxError, messageOf } from '../../errors.js';
import { AgentClient } from '../../guest/index.js';
import {
  endProcess,
  hostBootId,
  isAlive,
  Machine,
  type MachineUser,
  machineFiles,
  machinesBelow,
  type ProcessIdentity,
  QmpClient,
} from '../../machine/index.js';
import {
  allBoxUses,
  allMachines,
  type BoxUseRow,
  deleteMachine,
  findBox,
  findRunEnd,
  type MachineRow,
} from '../../store/index.js';
import { letGoOfMerged } from '../layers/merger.js';
import { adoptedPager, pagerOf, watchPager } from '../machines/adopt-pager.js';
import { keepLimits } from '../machines/disk-limits.js';
import { keepAnswering } from '../machines/disk-room.js';
import { adoptGateway, watchGateway } from '../machines/gateways.js';
import { newLiveBox } from '../machines/live.js';
import { repause } from '../machines/lost.js';
import { followMain } from '../machines/main.js';
import { hasSupplied, pagerState, saidDone } from '../machines/pager-process.js';
import { findHeads, reconcileHeads } from '../machines/reconcile.js';
import { repairLayers } from '../machines/repair.js';
import { removeBox } from '../machines/stop.js';
import { watchMachine } from '../machines/watch.js';
import { configOf, requireRow, updateBox } from '../record/rows.js';
import type { EngineContext } from './context.js';

/** An agent answers at once unless its machine was left standing still or is overloaded. */
const adoptTimeoutMs = 15_000;

/** Brings a home that an earlier engine left, however it ended, into a true state. */
export async function recover(ctx: EngineContext): Promise<void> {
  await ctx.scratch.clear();
  const adopted = await adoptMachines(ctx);
  await endUnknownMachines(ctx, adopted);
  ctx.machineGarbage.recovered();
  await findHeads(ctx);
  await repairLayers(ctx);
  await letGoOfMerged(ctx);
  await ctx.goldens.dropStale();
  for (const use of await allBoxUses(ctx.db)) await settleBox(ctx, use);
  await ctx.ports.reopen();
  ctx.gc.soon();
  ctx.hasher.soon();
}

/** Takes over the machines of boxes; ends those that waited in the pool. Returns the ids of those taken over. */
async function adoptMachines(ctx: EngineContext): Promise<Set<string>> {
  const thisBoot = await hostBootId();
  const adopted = new Set<string>();
  for (const row of await allMachines(ctx.db)) {
    const process = { pid: row.pid, startTicks: row.start_ticks };
    const sameBoot = row.host_boot === thisBoot;
    const lives = sameBoot && (await isAlive(process));
    if (lives && row.box_id !== null && (await adopt(ctx, row, row.box_id))) {
      adopted.add(row.id);
      continue;
    }
    // What does not end keeps its row: its box gets no other machine before it has ended.
    if (lives && !(await hasEnded(ctx, process))) continue;
    await putBack(ctx, row, { lives, sameBoot });
    await deleteMachine(ctx.db, row.id);
  }
  return adopted;
}

async function adopt(ctx: EngineContext, row: MachineRow, boxId: string): Promise<boolean> {
  const box = await findBox(ctx.db, boxId);
  if (box?.status !== 'running') return false;
  const user: MachineUser | undefined =
    row.uid === null ? undefined : { uid: row.uid, gid: row.gid ?? row.uid };
  const server = pagerOf(row);
  const supply = server && (await pagerState(ctx, boxId, server));
  if (supply === 'lost') return false;
  try {
    const process = { pid: row.pid, startTicks: row.start_ticks };
    const machine = await Machine.adopt(join(ctx.paths.machines, row.id), process, user);
    // The earlier engine may have ended while the machine stood still for it, or for a disk that is full.
    using answering = await keepAnswering(machine, ctx.logger);
    const agent = await AgentClient.connect({ socketPath: machine.agentSocket, timeoutMs: adoptTimeoutMs });
    // It may also have ended while the guest was frozen for a snapshot.
    await agent.system.thaw().catch(ignoreNotFrozen);
    // Or while the limits of its disks were changed, or lifted for that snapshot.
    await keepLimits(machine, configOf(box).diskLimits);
    const pager = server && supply === 'alive' ? adoptedPager(ctx, boxId, server) : undefined;
    const memory = { baseLayer: row.base_layer, memoryId: row.memory_id, pager };
    const gateway = await adoptGateway(ctx, machine, row, box);
    const live = newLiveBox({
      boxId,
      machineId: row.id,
      machine,
      agent,
      run: agent.hello.run ?? '',
      memory,
      gateway,
    });
    await reconcileHeads(ctx, live, box);
    live.disks.full = answering.metFullDisk;
    live.endsAt = await findRunEnd(ctx.db, boxId);
    ctx.live.set(live);
    ctx.runEnds.changed(boxId);
    watchMachine(ctx, live);
    watchGateway(ctx, live);
    await followMain(ctx, live, box);
    if (pager && server) watchPager(ctx, live, server);
    return true;
  } catch (error) {
    ctx.logger.warn('cannot take over a machine', { box: boxId, reason: messageOf(error) });
    return false;
  }
}

/**
 * A box whose machine has ended before it had all of its memory is paused again. Process ids mean nothing after another
 * boot of the host; then it counts what the page server had written down.
 */
async function putBack(
  ctx: EngineContext,
  row: MachineRow,
  { lives, sameBoot }: { readonly lives: boolean; readonly sameBoot: boolean },
): Promise<void> {
  const { box_id: boxId, memory_id: memoryId } = row;
  const server = pagerOf(row);
  if (!server || boxId === null || memoryId === null) return;
  const supplied = sameBoot ? await hasSupplied(ctx, boxId, server) : await saidDone(ctx, boxId);
  if (supplied) return;
  const what = lives ? 'the page server' : 'the machine';
  await repause(ctx, boxId, memoryId, `${what} ended while no engine was there`);
}

function ignoreNotFrozen(error: unknown): void {
  if (!isCryoboxError(error, 'invalid_state')) throw error;
}

async function hasEnded(ctx: EngineContext, process: ProcessIdentity): Promise<boolean> {
  try {
    await endProcess(process);
    return true;
  } catch (error) {
    ctx.logger.error('cannot end a machine', { pid: process.pid, reason: messageOf(error) });
    return false;
  }
}

/** Ends machines that were started but never recorded, and removes what ended ones left. */
async function endUnknownMachines(ctx: EngineContext, adopted: ReadonlySet<string>): Promise<void> {
  const stuck = new Set<string>();
  for (const { name, process } of await machinesBelow(ctx.paths.machines)) {
    if (!adopted.has(name) && !(await hasEnded(ctx, process))) stuck.add(name);
  }
  for (const name of await ownEntries(ctx.paths.machines, (it) => isId('mch', it))) {
    if (adopted.has(name) || stuck.has(name)) continue;
    const directory = join(ctx.paths.machines, name);
    // Where processes of others cannot be looked at, a machine is still reached by its socket.
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

async function settleBox(ctx: EngineContext, box: BoxUseRow): Promise<void> {
  if (box.status === 'configured') {
    // Its creation never ended, so nobody was told of it.
    await removeBox(ctx, await requireRow(ctx.db, box.id));
    return;
  }
  const lost = (box.status === 'running' || box.status === 'stopping') && !ctx.live.get(box.id);
  if (lost) {
    const status = box.status === 'stopping' ? 'stopped' : 'failed';
    const failure = status === 'failed' ? 'its machine was gone when the engine started' : null;
    await updateBox(ctx, box.id, { status, failure });
  }
  ctx.activity.watch(box);
}
