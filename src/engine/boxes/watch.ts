import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../errors.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';
import { requireRow, updateBox } from './rows.js';

/** Lines of the console that a failure carries. */
const consoleLines = 20;

/** Where a box's last console is kept when its machine is gone. */
export function consolePath(ctx: EngineContext, boxId: string): string {
  return join(ctx.paths.boxes, boxId, 'console.log');
}

/** Notices when a machine ends that nobody ended: the box becomes `failed`, or `stopped` when the guest powered off. */
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
  await forgetMachine(ctx, live);
  const lines = live.machine.console.text().trimEnd().split('\n').slice(-consoleLines).join('\n');
  if (poweredOff) await updateBox(ctx, live.boxId, { status: 'stopped', failure: null });
  else {
    const failure = `the machine ended unexpectedly${lines ? `; the console's last lines:\n${lines}` : ''}`;
    await updateBox(ctx, live.boxId, { status: 'failed', failure });
    ctx.counters.add((await requireRow(ctx.db, live.boxId)).tenant, 'boxesFailedTotal');
  }
}

/** Removes what a machine that has ended leaves behind; its console's last output is kept with the box. */
export async function forgetMachine(ctx: EngineContext, live: LiveBox): Promise<void> {
  await saveConsole(ctx, live).catch((error: unknown) => {
    ctx.logger.warn('cannot keep a console', { box: live.boxId, reason: messageOf(error) });
  });
  await live.machine.release();
  await ctx.db.deleteFrom('machines').where('id', '=', live.machineId).execute();
}

async function saveConsole(ctx: EngineContext, live: LiveBox): Promise<void> {
  const path = consolePath(ctx, live.boxId);
  await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
  await live.machine.console.save(path);
}
