import { messageOf } from '../../errors.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { repause } from '../memory/lost.js';
import { forgetMachine } from './forget.js';
import { requireRow, updateBox } from './rows.js';

/** Lines of the console that a failure carries. */
const consoleLines = 20;

/**
 * Notices when a machine ends that nobody ended: the box becomes `stopped` when the guest powered off, `paused` as it was
 * when the machine did not yet have all of the memory it was resumed from, else `failed`.
 */
export function watchMachine(ctx: EngineContext, live: LiveBox): void {
  let poweredOff = false;
  live.machine.qmp.onEvent(({ event, data }) => {
    if (event === 'SHUTDOWN' && data.guest === true) poweredOff = data.reason === 'guest-shutdown';
  });
  void live.machine.exited
    .then(() => machineEnded(ctx, live, poweredOff))
    .catch((error: unknown) => {
      ctx.logger.error('cannot record the end of a machine', { box: live.boxId, reason: String(error) });
    });
}

async function machineEnded(ctx: EngineContext, live: LiveBox, poweredOff: boolean): Promise<void> {
  // Somebody else already took the box out of the list: a stop, or the end of the engine.
  if (ctx.closing.signal.aborted || !ctx.live.delete(live)) return;
  live.agent.close();
  const hasSupplied = poweredOff || ((await live.memory.pager?.hasSupplied()) ?? true);
  if (!hasSupplied && (await putBack(ctx, live))) return await forgetMachine(ctx, live);
  await forgetMachine(ctx, live);
  const lines = live.machine.console.text().trimEnd().split('\n').slice(-consoleLines).join('\n');
  if (poweredOff) await updateBox(ctx, live.boxId, { status: 'stopped', failure: null });
  else {
    const failure = `the machine ended unexpectedly${lines ? `; the console's last lines:\n${lines}` : ''}`;
    await updateBox(ctx, live.boxId, { status: 'failed', failure });
    ctx.counters.add((await requireRow(ctx.db, live.boxId)).tenant, 'boxesFailedTotal');
  }
}

/** Puts a box back to the memory that its machine never had all of. Returns whether that could be done. */
async function putBack(ctx: EngineContext, { boxId, memory }: LiveBox): Promise<boolean> {
  const reason = 'the machine ended before it had all of its memory';
  try {
    await ctx.boxLocks.run(boxId, () => repause(ctx, boxId, memory.memoryId ?? '', reason));
    return true;
  } catch (error) {
    ctx.logger.error('cannot put a box back to its memory', { box: boxId, reason: messageOf(error) });
    return false;
  }
}
