import { readFile } from 'node:fs/promises';
import { ifExists } from '../../base/files.js';
import type { MachinesContext } from './context.js';
import { consolePath } from './forget.js';

/** The last 64 KiB of a box's console: of its machine now, or of the last one it had. */
export async function readConsole(ctx: MachinesContext, boxId: string): Promise<string> {
  const live = ctx.live.get(boxId);
  if (live) return live.machine.console.text();
  return (await ifExists(readFile(consolePath(ctx, boxId), 'utf8'))) ?? '';
}
