import { stat } from 'node:fs/promises';
import { ifExists } from '../../base/files.js';
import { hold, type LayerRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';

/** Makes the file that a page server wrote the working set of a memory, unless it has one or is gone. */
export async function publishWorkingSet(ctx: EngineContext, memoryId: string, row: LayerRow): Promise<void> {
  if (!(await ifExists(stat(ctx.layers.path(row.id))))) return;
  const sealed = { ...row, size_bytes: await ctx.layers.seal(row.id) };
  const kept = await ctx.commits.run(async (tx) => {
    const memory = await tx
      .selectFrom('memories')
      .select('working_set')
      .where('id', '=', memoryId)
      .executeTakeFirst();
    if (!memory || memory.working_set !== null) return false;
    await tx.insertInto('layers').values(sealed).execute();
    await tx.updateTable('memories').set({ working_set: row.id }).where('id', '=', memoryId).execute();
    await hold(tx, `memory:${memoryId}`, [row.id]);
    return true;
  });
  if (!kept) await ctx.layers.remove(row.id);
}
