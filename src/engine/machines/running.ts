import type { ProcessIdentity } from '../../machine/index.js';
import {
  type BoxRow,
  changeBox,
  changeMachine,
  type Database,
  hold,
  noteWritten,
  storeRunEnd,
} from '../../store/index.js';
import { emptyHeadBytes } from '../layers/layer-files.js';
import { announce } from '../record/rows.js';
import type { MachinesContext } from './context.js';
import { gatewayColumns, watchGateway } from './gateways.js';
import type { LiveBox } from './live.js';
import { followMain } from './main.js';
import { watchMachine } from './watch.js';

/** What is true of a box from the moment it runs. */
export interface RunningFacts {
  /** Layers that the machine writes. */
  readonly heads: Readonly<Record<'guest' | 'disk', string>>;
  /** Layers that it reads its memory from. */
  readonly holds: readonly string[];
  /** The process that supplies its memory, if there is one. */
  readonly pager?: ProcessIdentity | undefined;
  /** Milliseconds by the name of the stage. */
  readonly stages: Readonly<Record<string, number>>;
  /** Whether it starts anew: the end of an earlier main command is forgotten. @default false */
  readonly isNewRun?: boolean;
  /** When the run ends, in milliseconds since 1970; absent: never. */
  readonly endsAt?: number | undefined;
  /** What else becomes true in the same commit. */
  readonly apply?: (tx: Database) => Promise<void>;
}

/** Records that a box runs on a machine, in one commit: from then on what it writes counts. Throws what the database throws. */
export async function recordRunning(ctx: MachinesContext, live: LiveBox, facts: RunningFacts): Promise<void> {
  const { boxId, machineId, memory } = live;
  const { heads, pager, stages } = facts;
  await ctx.commits.run(async (tx) => {
    await changeMachine(tx, machineId, {
      box_id: boxId,
      memory_id: memory.memoryId,
      pager_pid: pager?.pid ?? null,
      pager_ticks: pager?.startTicks ?? null,
      ...gatewayColumns(live.gateway),
    });
    await hold(tx, `machine:${machineId}`, facts.holds);
    await facts.apply?.(tx);
    await storeRunEnd(tx, boxId, facts.endsAt);
    // A machine has written to these heads from now on: recovery must not make them again.
    await noteWritten(tx, [heads.guest, heads.disk], emptyHeadBytes);
    await changeBox(tx, boxId, {
      status: 'running',
      memory_id: null,
      failure: null,
      ...(facts.isNewRun ? { main_exit: null } : {}),
      stages: JSON.stringify(stages),
      updated_at: Date.now(),
    });
  });
  live.endsAt = facts.endsAt;
}

/** Gives a recorded machine to whoever uses the box, and watches it. Never fails: nothing takes the record back. */
export async function takeIntoUse(ctx: MachinesContext, live: LiveBox, row: BoxRow): Promise<void> {
  ctx.live.set(live);
  ctx.runEnds.changed(live.boxId);
  watchMachine(ctx, live);
  watchGateway(ctx, live);
  await followMain(ctx, live, row);
  announce(ctx, row, 'running');
}
