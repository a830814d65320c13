import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../errors.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';

/** Where a box's last console is kept when its machine is gone. */
export function consolePath(ctx: EngineContext, boxId: string): string {
  return join(ctx.paths.boxes, boxId, 'console.log');
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
