import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import { AgentClient } from '../../guest/index.js';
import { attachDisk, type DiskSlot, loadState, type Machine } from '../../machine/index.js';
import type { EngineContext } from '../context.js';
import { attachVolumes } from '../volumes/attach.js';
import type { Attachment } from '../volumes/attachment.js';
import type { Golden } from './golden.js';
import { goldenSpec, type WaitingMachine } from './pool.js';

/** Where a machine's memory and devices come from. */
export interface StateSource {
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
  /** Called with each stage's name and milliseconds. */
  readonly onStage: (stage: string, durationMs: number) => void;
}

/** A machine that runs, and its agent. */
export interface RestoredMachine extends WaitingMachine {
  readonly agent: AgentClient;
}

/** The agent answers within 100 ms of a restore, also under emulation; a busy host may need far longer. */
const agentTimeoutMs = 30_000;

/** The state of a golden machine, whose memory a waiting machine has already. */
export function goldenSource(ctx: EngineContext, golden: Golden, outbound: boolean): StateSource {
  return {
    acquire: () => ctx.pool.take(goldenSpec(golden, outbound)),
    load: async (machine) => {
      await loadState(machine.qmp, machine.directory, {
        ignoreShared: true,
        write: async (socket) => void socket.write(golden.state),
      });
      await machine.run();
    },
  };
}

/**
 * The one way a machine comes to run: a waiting QEMU gets the box's disks and a state, and goes on.
 * When anything fails the machine is killed. Throws `machine_failed` with the console's last lines, `integrity`.
 */
export async function restoreMachine(ctx: EngineContext, options: RestoreOptions): Promise<RestoredMachine> {
  const stage = stageClock(options.onStage);
  const waiting = await options.source.acquire();
  stage('machine');
  const { machine } = waiting;
  try {
    await attachDisks(ctx, waiting, options.heads);
    await attachVolumes(ctx, machine, options.volumes);
    stage('disks');
    await options.source.load(machine);
    stage('state');
    const agent = await AgentClient.connect({ socketPath: machine.agentSocket, timeoutMs: agentTimeoutMs });
    stage('agent');
    return { ...waiting, agent };
  } catch (error) {
    const console = machine.console.text().trimEnd();
    await machine.kill();
    await ctx.db.deleteFrom('machines').where('id', '=', waiting.id).execute();
    if (isCryoboxError(error, 'integrity')) throw error;
    const words = console === '' ? '' : `\n${console}`;
    throw new CryoboxError('machine_failed', `cannot restore the machine: ${messageOf(error)}${words}`, {
      cause: error,
    });
  }
}

async function attachDisks(
  ctx: EngineContext,
  { machine }: WaitingMachine,
  heads: Readonly<Record<DiskSlot, string>>,
): Promise<void> {
  const attach = async (slot: DiskSlot): Promise<void> => {
    const { chain, files } = await ctx.layers.disk(ctx.db, heads[slot]);
    await Promise.all(files.map((file) => machine.place(file)));
    await attachDisk(machine.qmp, slot, chain);
  };
  await Promise.all([attach('guest'), attach('disk')]);
}

function stageClock(report: RestoreOptions['onStage']): (stage: string) => void {
  let last = performance.now();
  return (stage) => {
    const now = performance.now();
    report(stage, now - last);
    last = now;
  };
}
