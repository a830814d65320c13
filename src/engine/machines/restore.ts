import { faultPoint } from '../../base/faults.js';
import { isCryoboxError, messageOf } from '../../errors.js';
import { AgentClient } from '../../guest/index.js';
import {
  attachDisk,
  type Card,
  type DiskSlot,
  lastWords,
  type Machine,
  machineFailure,
} from '../../machine/index.js';
import type { Gateway } from '../../network/index.js';
import type { BoxRow } from '../../store/index.js';
import { attachVolumes } from '../volumes/attach.js';
import type { Attachment } from '../volumes/attachment.js';
import type { MachinesContext } from './context.js';
import { limitNewMachine } from './disk-limits.js';
import { startGateway } from './gateways.js';
import type { Golden } from './golden.js';
import { loadGolden } from './golden-load.js';
import type { HotMachine } from './hot.js';
import { goldenSpec, type WaitingMachine } from './pool.js';

/** Where a machine's memory and devices come from. */
export interface StateSource {
  /** A machine that has the state already and only lacks its disks, if there is one; whoever calls owns it. */
  ready?(): Promise<HotMachine | undefined>;
  /** A machine that waits for this state; whoever calls owns it. */
  acquire(): Promise<WaitingMachine>;
  /** Gives it the state and lets it run. */
  load(machine: Machine): Promise<void>;
}

/** What a machine is restored from. */
export interface RestoreOptions {
  readonly source: StateSource;
  /** Layers that the machine writes. */
  readonly heads: Readonly<Record<DiskSlot, string>>;
  readonly volumes: readonly Attachment[];
  /** Whose gateway it gets, for a machine whose card leads to one. */
  readonly gatewayOf?: BoxRow | undefined;
  /** The box, whose limits hold from the first instruction on; absent: those are set later. */
  readonly limitedAs?: BoxRow | undefined;
  /** Called with each stage's name and milliseconds. */
  readonly onStage: (stage: string, durationMs: number) => void;
}

/** A machine that runs, and its agent. */
export interface RestoredMachine extends WaitingMachine {
  readonly agent: AgentClient;
  readonly gateway: Gateway | undefined;
}

/** Failures that say themselves what to do; all others are the machine's. */
const toldAsTheyAre = ['integrity', 'disk_full', 'resource_exhausted', 'config_error'] as const;

/** The agent answers within 100 ms of a restore, also under emulation; a busy host may need far longer. */
const agentTimeoutMs = 30_000;

/** The state of a golden machine: by a hot machine where one waits, else by one that has the memory already. */
export function goldenSource(ctx: MachinesContext, golden: Golden, card: Card): StateSource {
  return {
    ready: () => ctx.hot.take(golden, card),
    acquire: () => ctx.pool.take(goldenSpec(golden, card)),
    load: (machine) => loadGolden(machine, golden, card),
  };
}

/**
 * The one way a machine comes to run: a waiting QEMU gets the box's disks and a state, and goes on; or one that has the
 * state already gets the disks.
 * When anything fails the machine is killed. Throws `machine_failed` with the console's last lines, `integrity`,
 * `disk_full`, `resource_exhausted`, `config_error`.
 */
export async function restoreMachine(
  ctx: MachinesContext,
  options: RestoreOptions,
): Promise<RestoredMachine> {
  const stage = stageClock(options.onStage);
  const hot = await options.source.ready?.();
  const handedOver = hot && (await handOver(ctx, hot, options, stage));
  if (handedOver) return handedOver;
  const waiting = await options.source.acquire();
  stage('machine');
  const { machine } = waiting;
  const starting = gatewayFor(ctx, machine, options);
  try {
    await attachAll(ctx, machine, options);
    stage('disks');
    // Before the guest runs: from its first instruction on its packets are judged.
    const gateway = await starting;
    await options.source.load(machine);
    stage('state');
    const agent = await AgentClient.connect({ socketPath: machine.agentSocket, timeoutMs: agentTimeoutMs });
    stage('agent');
    return { ...waiting, agent, gateway };
  } catch (error) {
    const words = [await lastWords(machine.directory), machine.console.text().trimEnd()].filter(Boolean);
    await giveUp(ctx, waiting, starting);
    if (toldAsTheyAre.some((code) => isCryoboxError(error, code))) throw error;
    throw machineFailure('cannot restore the machine', error, words.join('\n'));
  }
}

/**
 * Gives a machine that stands still its disks, and lets it go on: its agent is told to mount them afterwards. Where that
 * fails nothing has touched the disks, so that another machine can have them: undefined then, unless what failed would
 * fail there as well.
 */
async function handOver(
  ctx: MachinesContext,
  hot: HotMachine,
  options: RestoreOptions,
  stage: (name: string) => void,
): Promise<RestoredMachine | undefined> {
  stage('machine');
  const starting = gatewayFor(ctx, hot.machine, options);
  try {
    faultPoint('hot.hand-over:before');
    await attachAll(ctx, hot.machine, options);
    stage('disks');
    const gateway = await starting;
    faultPoint('hot.hand-over:equipped');
    await hot.machine.run();
    faultPoint('hot.hand-over:after');
    stage('state');
    return { ...hot, gateway };
  } catch (error) {
    hot.agent.close();
    await giveUp(ctx, hot, starting);
    if (toldAsTheyAre.some((code) => isCryoboxError(error, code))) throw error;
    ctx.logger.warn('a hot machine is of no use', { machine: hot.id, reason: messageOf(error) });
    return undefined;
  }
}

/** Starts the gateway of a machine whose card leads to one. Whoever calls waits for it. */
function gatewayFor(
  ctx: MachinesContext,
  machine: Machine,
  { gatewayOf }: RestoreOptions,
): Promise<Gateway> | undefined {
  const starting = gatewayOf && startGateway(ctx, machine, gatewayOf);
  starting?.catch(() => undefined);
  return starting;
}

/** Ends a machine that came to nothing, and its gateway. */
async function giveUp(
  ctx: MachinesContext,
  waiting: WaitingMachine,
  starting: Promise<Gateway> | undefined,
): Promise<void> {
  // What fails here is tried again, and told, below.
  await waiting.machine.kill().catch(() => undefined);
  // It ends with its machine, and until then may make files in the directory.
  await starting?.then((gateway) => gateway.exited).catch(() => undefined);
  await ctx.pool.giveUp(waiting);
}

/** Gives a machine that does not run the disks and volumes of its box, and its limits. */
async function attachAll(
  ctx: MachinesContext,
  machine: Machine,
  { heads, volumes, limitedAs }: RestoreOptions,
): Promise<void> {
  const attach = async (slot: DiskSlot): Promise<void> => {
    const { chain, files } = await ctx.layers.disk(ctx.db, heads[slot]);
    await Promise.all(files.map((file) => machine.place(file)));
    await attachDisk(machine.qmp, slot, chain);
  };
  await Promise.all([attach('guest'), attach('disk')]);
  await attachVolumes(ctx, machine, volumes);
  if (limitedAs) await limitNewMachine(machine, limitedAs);
}

function stageClock(report: RestoreOptions['onStage']): (stage: string) => void {
  let last = performance.now();
  return (stage) => {
    const now = performance.now();
    report(stage, now - last);
    last = now;
  };
}
