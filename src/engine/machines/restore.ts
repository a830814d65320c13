import { CryoboxError, messageOf } from '../../errors.js';
import { AgentClient } from '../../guest/index.js';
import { attachDisk, type DiskSlot, loadState } from '../../machine/index.js';
import type { EngineContext } from '../context.js';
import type { Golden } from './golden.js';
import type { WaitingMachine } from './pool.js';

/** What a machine is restored from. */
export interface RestoreOptions {
  readonly golden: Golden;
  /** Layers that the machine writes. */
  readonly heads: Readonly<Record<DiskSlot, string>>;
  readonly outbound: boolean;
  /** Called with each stage's name and milliseconds. */
  readonly onStage: (stage: string, durationMs: number) => void;
}

/** A machine that runs, and its agent. */
export interface RestoredMachine extends WaitingMachine {
  readonly agent: AgentClient;
}

/** The agent answers within 100 ms of a restore, also under emulation; a busy host may need far longer. */
const agentTimeoutMs = 30_000;

/**
 * The one way a machine comes to run: a waiting QEMU gets the box's disks and a state, and goes on.
 * When anything fails the machine is killed. Throws `machine_failed` with the console's last lines.
 */
export async function restoreMachine(ctx: EngineContext, options: RestoreOptions): Promise<RestoredMachine> {
  const stage = stageClock(options.onStage);
  const waiting = await ctx.pool.take(options.golden, options.outbound);
  stage('machine');
  const { machine } = waiting;
  try {
    await attachDisks(ctx, waiting, options.heads);
    stage('disks');
    await loadState(machine.qmp, machine.directory, {
      ignoreShared: true,
      write: async (socket) => void socket.write(options.golden.state),
    });
    await machine.run();
    stage('state');
    const agent = await AgentClient.connect({ socketPath: machine.agentSocket, timeoutMs: agentTimeoutMs });
    stage('agent');
    return { ...waiting, agent };
  } catch (error) {
    const console = machine.console.text().trimEnd();
    await machine.kill();
    await ctx.db.deleteFrom('machines').where('id', '=', waiting.id).execute();
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
  for (const slot of ['guest', 'disk'] as const) {
    const { chain, files } = await ctx.layers.disk(ctx.db, heads[slot]);
    for (const file of files) await machine.place(file);
    await attachDisk(machine.qmp, slot, chain);
  }
}

function stageClock(report: RestoreOptions['onStage']): (stage: string) => void {
  let last = performance.now();
  return (stage) => {
    const now = performance.now();
    report(stage, now - last);
    last = now;
  };
}
