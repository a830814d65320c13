import { stat } from 'node:fs/promises';
import { ifExists } from '../../base/files.js';
import {
  type Database,
  findLayer,
  insertLayers,
  type LayerRow,
  type MemoryRow,
  memoryAndThatOfBox,
  replaceWorkingSet,
} from '../../store/index.js';
import type { LayersContext } from './context.js';

/**
 * Whether a memory's working set was recorded by a resume of it. A memory begins with the one of what it came from, which
 * the first resume replaces.
 */
async function isOwn(
  db: Database,
  { working_set, created_at }: Pick<MemoryRow, 'working_set' | 'created_at'>,
): Promise<boolean> {
  if (working_set === null) return false;
  const layer = await findLayer(db, working_set);
  return layer !== undefined && layer.created_at >= created_at;
}

/** Where a resume is to write down what it needed; undefined when that is known already. */
export async function newWorkingSet(ctx: LayersContext, memory: MemoryRow): Promise<LayerRow | undefined> {
  if (await isOwn(ctx.db, memory)) return undefined;
  return ctx.layers.newRow({ kind: 'working-set', parent_id: null, state: 'sealed', virtual_bytes: 0 });
}

/**
 * Makes the file that a page server wrote the working set of the memory it supplied, and of what its box has been paused
 * as meanwhile. Nothing happens where none was written.
 */
export async function publishWorkingSet(
  ctx: LayersContext,
  supplied: { readonly memoryId: string; readonly boxId: string },
  row: LayerRow,
): Promise<void> {
  if (!(await ifExists(stat(ctx.layers.path(row.id))))) return;
  const sealed = { ...row, size_bytes: await ctx.layers.seal(row.id) };
  const kept = await ctx.commits.run(async (tx) => {
    const memories = await memoryAndThatOfBox(tx, supplied.memoryId, supplied.boxId);
    let isStored = false;
    for (const memory of memories) {
      if (memory.id === supplied.memoryId && (await isOwn(tx, memory))) continue;
      if (!isStored) await insertLayers(tx, [sealed]);
      isStored = true;
      await replaceWorkingSet(tx, memory, row.id);
    }
    return isStored;
  });
  if (!kept) await ctx.layers.remove(row.id);
}
