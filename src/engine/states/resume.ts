import { randomBytes } from 'node:crypto';
import type { Pager, ResumeResult } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { inBackground } from '../../base/in-background.js';
import { CryoboxError } from '../../errors.js';
import { hasUserNetwork } from '../../formats/qemu-stream/index.js';
import type { AgentClient } from '../../guest/index.js';
import type { Card } from '../../machine/index.js';
import type { BoxRow } from '../../store/index.js';
import { Stages } from '../core/stages.js';
import { headsForResume, type ResumeHeads } from '../layers/heads.js';
import { requireMemory } from '../layers/memories.js';
import type { MachinesContext } from '../machines/context.js';
import { endFormerMachines } from '../machines/former.js';
import { cardOf } from '../machines/gateways.js';
import { compatibleGolden } from '../machines/guard.js';
import { guestNetwork, hostnameOf, hostsFile, newMac } from '../machines/identity.js';
import { type LazySource, lazySource } from '../machines/lazy.js';
import { type LiveBox, newLiveBox } from '../machines/live.js';
import { pagerLost, repause } from '../machines/lost.js';
import { choosePager } from '../machines/pager.js';
import { goldenSpec } from '../machines/pool.js';
import { type RestoredMachine, restoreMachine } from '../machines/restore.js';
import { recordRunning, takeIntoUse } from '../machines/running.js';
import { mappedSource, type OpenedMemory, openForResume } from '../machines/source.js';
import { bringUpFailure } from '../machines/start.js';
import { installTrust } from '../machines/trust.js';
import { endOfRun } from '../record/config.js';
import { configOf } from '../record/rows.js';
import { mountVolumes } from '../volumes/attach.js';
import type { Attachment } from '../volumes/attachment.js';
import { checkStamps, stampsOf } from '../volumes/stamps.js';

/** How a box comes back. */
export interface ResumeOptions {
  readonly pager?: Pager;
  /** It is another box than the one whose memory this is. */
  readonly newIdentity?: boolean;
  /** The memory, where the caller has it open already; it stays the caller's. */
  readonly opened?: OpenedMemory;
  /** When the run ends, in milliseconds since 1970; undefined: never. @default by the box's lifetime */
  readonly endsAt?: number | undefined;
  /** Gives up as long as the box can be left as it was. */
  readonly signal?: AbortSignal;
}

/**
 * Brings a box back from its memory. Called under the box's lock. When it fails the box stays as it was, with its
 * memory. Throws `invalid_state` when the memory does not fit this host, `integrity`, `identity_unconfirmed`,
 * `disk_full`, `resource_exhausted`, `machine_failed`, `cancelled`.
 */
export async function resumeBox(
  ctx: MachinesContext,
  row: BoxRow,
  options: ResumeOptions = {},
): Promise<{ live: LiveBox; result: ResumeResult }> {
  // Nobody would ever end the one that it has.
  if (ctx.live.get(row.id)) throw new CryoboxError('internal', `box ${row.id} has a machine already`);
  const stages = new Stages();
  const started = performance.now();
  using claim = await ctx.volumes.claim(row);
  using _ = await ctx.limits.enter(row);
  const { attachments: volumes } = claim;
  const opened = options.opened ?? (await openBoxMemory(ctx, row));
  try {
    const { memory } = opened;
    await endFormerMachines(ctx, row.id);
    await checkStamps(ctx, memory, volumes);
    await using heads = await headsForResume(ctx, row, memory);
    await ctx.layers.sync([heads.guest, heads.disk]);
    const { network } = configOf(row);
    const card = cardOf(ctx, network);
    // A page server sends a state as it is.
    const asItIs = card !== 'gateway' || !hasUserNetwork(opened.deviceSections);
    const pager = asItIs ? await choosePager(options.pager ?? 'auto', opened) : 'mmap';
    stages.record('prepare', performance.now() - started);
    throwIfCancelled(options.signal, 'the resume of a box');
    const lazy = pager === 'uffd' ? lazySource(ctx, opened, { boxId: row.id, card }) : undefined;
    const restored = await restoreMachine(ctx, {
      source: lazy ?? mappedSource(ctx, opened, card),
      heads,
      volumes,
      gatewayOf: card === 'gateway' ? row : undefined,
      limitedAs: row,
      onStage: stages.record,
    });
    const live = await bringToUse(ctx, {
      row,
      heads,
      restored,
      volumes,
      opened,
      options,
      lazy,
      card,
      onStage: stages.record,
      started,
      stages: stages.ms,
    });
    keepReady(ctx, opened, { card, isLazy: lazy !== undefined });
    return { live, result: { pager, resumed: true, stages: stages.ms } };
  } finally {
    if (!options.opened) await opened[Symbol.asyncDispose]();
  }
}

/** Has what the next resume of this kind needs wait for it. */
function keepReady(
  ctx: MachinesContext,
  { golden }: OpenedMemory,
  { card, isLazy }: { readonly card: Card; readonly isLazy: boolean },
): void {
  const spec = goldenSpec(golden, card);
  if (card !== 'closed') ctx.pool.refill(isLazy ? { ...spec, baseLayer: null } : spec);
  if (isLazy) ctx.pageServers.refill();
}

/** Opens what a box goes on from. Throws `invalid_state`, `integrity`. */
export async function openBoxMemory(ctx: MachinesContext, row: BoxRow): Promise<OpenedMemory> {
  const memory = await requireMemory(ctx.db, row.memory_id ?? '');
  return await openForResume(ctx, memory, await compatibleGolden(ctx, memory));
}

interface Restored {
  readonly row: BoxRow;
  readonly heads: ResumeHeads;
  readonly restored: RestoredMachine;
  readonly volumes: readonly Attachment[];
  readonly opened: OpenedMemory;
  readonly options: ResumeOptions;
  readonly lazy: LazySource | undefined;
  readonly card: Card;
  readonly onStage: (stage: string, durationMs: number) => void;
  readonly started: number;
  readonly stages: Record<string, number>;
}

async function bringToUse(ctx: MachinesContext, facts: Restored): Promise<LiveBox> {
  const { row, restored, opened, onStage } = facts;
  const { id: machineId, machine, agent } = restored;
  try {
    throwIfCancelled(facts.options.signal, 'the resume of a box');
    const identifying = performance.now();
    const run = await renewIdentity(agent, row, facts);
    const mounted = new Set(stampsOf(opened.memory).map(({ volume }) => volume));
    await mountVolumes(
      agent,
      facts.volumes.filter(({ volumeId }) => !mounted.has(volumeId)),
    );
    await installTrust(ctx, agent, row);
    onStage('identity', performance.now() - identifying);
    onStage('total', performance.now() - facts.started);
    const memory = {
      baseLayer: facts.lazy ? null : opened.plan.baseLayerId,
      memoryId: opened.memory.id,
      pager: facts.lazy?.pager,
    };
    const live = newLiveBox({
      boxId: row.id,
      machineId,
      machine,
      agent,
      run,
      memory,
      gateway: restored.gateway,
    });
    if (facts.lazy?.wasLostEarly()) throw lostEarly(await facts.lazy.ended);
    throwIfCancelled(facts.options.signal, 'the resume of a box');
    await recordRunning(ctx, live, {
      heads: facts.heads,
      // A page server opens layers when it needs them: all of them stay, whatever is merged meanwhile.
      holds: memory.baseLayer === null ? opened.image.map.layers : [memory.baseLayer],
      pager: facts.lazy?.process(),
      stages: facts.stages,
      endsAt: 'endsAt' in facts.options ? facts.options.endsAt : endOfRun(configOf(row)),
      apply: (tx) => facts.heads.apply(tx),
    });
    if (facts.lazy?.wasLostEarly()) {
      const reason = await facts.lazy.ended;
      await putBack(ctx, live, row, reason ?? '');
      throw lostEarly(reason);
    }
    await takeIntoUse(ctx, live, row);
    if (facts.lazy) {
      const lost = facts.lazy.ended.then((reason) =>
        reason === undefined ? undefined : pagerLost(ctx, live, reason),
      );
      inBackground(lost, `note the end of the page server of box ${row.id}`, ctx.logger);
    }
    return live;
  } catch (error) {
    // Unless the box has it all the same: its end is recorded then.
    if (ctx.live.get(row.id)?.machine !== machine) {
      agent.close();
      await ctx.pool.giveUp(restored);
    }
    throw bringUpFailure(error, `resume box ${row.id}`, ['identity_unconfirmed']);
  }
}

function lostEarly(reason: string | undefined): CryoboxError {
  return new CryoboxError('machine_failed', reason ?? 'the machine lost its page server');
}

/** Puts a box back to its memory. Where that cannot be recorded it keeps the machine, whose end is recorded later. */
async function putBack(ctx: MachinesContext, live: LiveBox, row: BoxRow, reason: string): Promise<void> {
  try {
    await repause(ctx, row.id, live.memory.memoryId ?? '', reason);
  } catch (error) {
    live.memoryLost = reason;
    await takeIntoUse(ctx, live, row);
    throw error;
  }
}

/**
 * Clock and randomness always; what tells a box from its siblings when it is a new one, or goes on from what came in an
 * archive. Returns the run's number.
 */
async function renewIdentity(
  agent: AgentClient,
  row: BoxRow,
  { options, card, opened }: Restored,
): Promise<string> {
  const hostname = hostnameOf(row);
  const newIdentity = options.newIdentity === true || opened.memory.run === '';
  const identity = newIdentity
    ? { hostname, machineId: randomBytes(16).toString('hex'), mac: newMac(), sshHostKeys: true, newRun: true }
    : {};
  const { run } = await agent.system.configure({
    identity,
    // A new hardware address takes the interface down, and its routes with it.
    network: newIdentity && card !== 'closed' ? guestNetwork : undefined,
    resetConnections: true,
  });
  if (run === null) throw new CryoboxError('identity_unconfirmed', 'the guest did not say which run it is');
  if (!newIdentity && run !== opened.memory.run) {
    throw new CryoboxError('identity_unconfirmed', `the guest is run ${run}, expected ${opened.memory.run}`);
  }
  if (newIdentity) await agent.files.write('/etc/hosts', [Buffer.from(hostsFile(hostname))]);
  return run;
}
