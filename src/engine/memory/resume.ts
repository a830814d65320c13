import { randomBytes } from 'node:crypto';
import type { Pager, ResumeResult } from '../../api/index.js';
import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import type { AgentClient } from '../../guest/index.js';
import { type BoxRow, hold } from '../../store/index.js';
import { guestNetwork, hostnameOf, hostsFile, newMac } from '../boxes/identity.js';
import { announce, configOf } from '../boxes/rows.js';
import { noteWritten } from '../boxes/start.js';
import { watchMachine } from '../boxes/watch.js';
import type { EngineContext } from '../context.js';
import { type LiveBox, newLiveBox } from '../live.js';
import { goldenSpec } from '../machines/pool.js';
import { type RestoredMachine, restoreMachine } from '../machines/restore.js';
import { mountVolumes } from '../volumes/attach.js';
import type { Attachment } from '../volumes/attachment.js';
import { checkStamps, stampsOf } from '../volumes/stamps.js';
import { compatibleGolden } from './guard.js';
import { cleanHeads } from './heads.js';
import { type LazySource, lazySource } from './lazy.js';
import { pagerLost, repause } from './lost.js';
import { choosePager } from './pager.js';
import { requireMemory } from './rows.js';
import { mappedSource, type OpenedMemory, openForResume } from './source.js';

/** How a box comes back. */
export interface ResumeOptions {
  readonly pager?: Pager;
  /** It is another box than the one whose memory this is. */
  readonly newIdentity?: boolean;
  /** The memory, where the caller has it open already; it stays the caller's. */
  readonly opened?: OpenedMemory;
}

/**
 * Brings a box back from its memory. Called under the box's lock. When it fails the box stays as it was, with its
 * memory. Throws `invalid_state` when the memory does not fit this host, `integrity`, `identity_unconfirmed`,
 * `disk_full`, `machine_failed`.
 */
export async function resumeBox(
  ctx: EngineContext,
  row: BoxRow,
  options: ResumeOptions = {},
): Promise<{ live: LiveBox; result: ResumeResult }> {
  const stages: Record<string, number> = {};
  const onStage = (stage: string, durationMs: number): void => {
    stages[stage] = Math.round(durationMs * 10) / 10;
  };
  const started = performance.now();
  using claim = await ctx.volumes.claim(row);
  const { attachments: volumes } = claim;
  const opened = options.opened ?? (await openBoxMemory(ctx, row));
  try {
    const { memory } = opened;
    await checkStamps(ctx, memory, volumes);
    const current = await cleanHeads(ctx, row, memory);
    await ctx.layers.sync([current.guest_head, current.disk_head]);
    const outbound = configOf(row).network.outbound === 'enabled';
    const pager = await choosePager(options.pager ?? 'auto', opened);
    onStage('prepare', performance.now() - started);
    const lazy = pager === 'uffd' ? lazySource(ctx, opened, { boxId: row.id, outbound }) : undefined;
    const restored = await restoreMachine(ctx, {
      source: lazy ?? mappedSource(ctx, opened, outbound),
      heads: { guest: current.guest_head, disk: current.disk_head },
      volumes,
      onStage,
    });
    const live = await bringToUse(ctx, {
      row: current,
      restored,
      volumes,
      opened,
      options,
      lazy,
      outbound,
      onStage,
      started,
      stages,
    });
    keepReady(ctx, opened, { outbound, isLazy: lazy !== undefined });
    return { live, result: { pager, resumed: true, stages } };
  } finally {
    if (!options.opened) await opened[Symbol.asyncDispose]();
  }
}

/** Has what the next resume of this kind needs wait for it. */
function keepReady(
  ctx: EngineContext,
  { golden }: OpenedMemory,
  { outbound, isLazy }: { readonly outbound: boolean; readonly isLazy: boolean },
): void {
  const spec = goldenSpec(golden, true);
  if (outbound) ctx.pool.refill(isLazy ? { ...spec, baseLayer: null } : spec);
  if (isLazy) ctx.pageServers.refill();
}

/** Opens what a box goes on from. Throws `invalid_state`, `integrity`. */
export async function openBoxMemory(ctx: EngineContext, row: BoxRow): Promise<OpenedMemory> {
  const memory = await requireMemory(ctx.db, row.memory_id ?? '');
  return await openForResume(ctx, memory, await compatibleGolden(ctx, memory));
}

interface Restored {
  readonly row: BoxRow;
  readonly restored: RestoredMachine;
  readonly volumes: readonly Attachment[];
  readonly opened: OpenedMemory;
  readonly options: ResumeOptions;
  readonly lazy: LazySource | undefined;
  readonly outbound: boolean;
  readonly onStage: (stage: string, durationMs: number) => void;
  readonly started: number;
  readonly stages: Record<string, number>;
}

/** Failures that say themselves what to do; all others are the machine's. */
const toldAsTheyAre = ['identity_unconfirmed', 'invalid_state', 'disk_full'] as const;

async function bringToUse(ctx: EngineContext, facts: Restored): Promise<LiveBox> {
  const { row, restored, opened, onStage } = facts;
  const { id: machineId, machine, agent } = restored;
  try {
    const identifying = performance.now();
    const run = await renewIdentity(agent, row, facts);
    const mounted = new Set(stampsOf(opened.memory).map(({ volume }) => volume));
    await mountVolumes(
      agent,
      facts.volumes.filter(({ volumeId }) => !mounted.has(volumeId)),
    );
    onStage('identity', performance.now() - identifying);
    onStage('total', performance.now() - facts.started);
    const memory = {
      baseLayer: facts.lazy ? null : opened.plan.baseLayerId,
      memoryId: opened.memory.id,
      pager: facts.lazy?.pager,
    };
    const live = newLiveBox({ boxId: row.id, machineId, machine, agent, run, memory });
    await recordRunning(ctx, live, facts);
    if (facts.lazy?.wasLostEarly()) {
      const reason = (await facts.lazy.ended) ?? '';
      await repause(ctx, row.id, opened.memory.id, reason);
      throw new CryoboxError('machine_failed', reason);
    }
    ctx.live.set(live);
    watchMachine(ctx, live);
    void facts.lazy?.ended.then((reason) =>
      reason === undefined ? undefined : pagerLost(ctx, live, reason),
    );
    announce(ctx, row, 'running');
    return live;
  } catch (error) {
    agent.close();
    await machine.kill();
    await ctx.db.deleteFrom('machines').where('id', '=', machineId).execute();
    const isTold = toldAsTheyAre.some((code) => isCryoboxError(error, code));
    if (isTold) throw error;
    throw new CryoboxError('machine_failed', `cannot resume box ${row.id}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The box runs from the moment this is durable: what it writes from then on counts. */
async function recordRunning(
  ctx: EngineContext,
  live: LiveBox,
  { row, stages, lazy, opened }: Restored,
): Promise<void> {
  const now = Date.now();
  const { memoryId, baseLayer } = live.memory;
  const pager = lazy?.process();
  await ctx.commits.run(async (tx) => {
    await tx
      .updateTable('machines')
      .set({
        box_id: live.boxId,
        memory_id: memoryId,
        pager_pid: pager?.pid ?? null,
        pager_ticks: pager?.startTicks ?? null,
      })
      .where('id', '=', live.machineId)
      .execute();
    // A page server opens layers when it needs them: all of them stay, whatever is merged meanwhile.
    await hold(tx, `machine:${live.machineId}`, baseLayer === null ? opened.image.map.layers : [baseLayer]);
    await noteWritten(tx, [row.guest_head, row.disk_head]);
    await tx
      .updateTable('boxes')
      .set({
        status: 'running',
        memory_id: null,
        failure: null,
        stages: JSON.stringify(stages),
        updated_at: now,
        last_active_at: now,
      })
      .where('id', '=', live.boxId)
      .execute();
  });
}

/**
 * Clock and randomness always; what tells a box from its siblings when it is a new one, or goes on from what came in an
 * archive. Returns the run's number.
 */
async function renewIdentity(
  agent: AgentClient,
  row: BoxRow,
  { options, outbound, opened }: Restored,
): Promise<string> {
  const hostname = hostnameOf(row);
  const newIdentity = options.newIdentity === true || opened.memory.run === '';
  const identity = newIdentity
    ? { hostname, machineId: randomBytes(16).toString('hex'), mac: newMac(), sshHostKeys: true, newRun: true }
    : {};
  const { run } = await agent.system.configure({
    identity,
    // A new hardware address takes the interface down, and its routes with it.
    network: newIdentity && outbound ? guestNetwork : undefined,
    resetConnections: true,
  });
  if (run === null) throw new CryoboxError('identity_unconfirmed', 'the guest did not say which run it is');
  if (!newIdentity && run !== opened.memory.run) {
    throw new CryoboxError('identity_unconfirmed', `the guest is run ${run}, expected ${opened.memory.run}`);
  }
  if (newIdentity) await agent.files.write('/etc/hosts', [Buffer.from(hostsFile(hostname))]);
  return run;
}
