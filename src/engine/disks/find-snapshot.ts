import { CryoboxError } from '../../errors.js';
import type { SnapshotRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';

/** The stored snapshot of a box, or `not_found`. */
export async function findSnapshot(ctx: EngineContext, boxId: string, name: string): Promise<SnapshotRow> {
  const row = await ctx.db
    .selectFrom('snapshots')
    .selectAll()
    .where('box_id', '=', boxId)
    .where('name', '=', name)
    .executeTakeFirst();
  if (row) return row;
  throw new CryoboxError('not_found', `the box has no snapshot ${JSON.stringify(name)}`, {
    details: { name },
  });
}
