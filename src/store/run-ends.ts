import type { Database } from './database.js';

/** Stores when the run of a box ends, in milliseconds since 1970; undefined: it has no end. */
export async function storeRunEnd(tx: Database, boxId: string, endsAt: number | undefined): Promise<void> {
  if (endsAt === undefined) {
    await tx.deleteFrom('run_ends').where('box_id', '=', boxId).execute();
    return;
  }
  await tx
    .insertInto('run_ends')
    .values({ box_id: boxId, ends_at: endsAt })
    .onConflict((conflict) => conflict.column('box_id').doUpdateSet({ ends_at: endsAt }))
    .execute();
}

/** When the last run of a box was to end; undefined when it had no end. */
export async function findRunEnd(db: Database, boxId: string): Promise<number | undefined> {
  const row = await db
    .selectFrom('run_ends')
    .select('ends_at')
    .where('box_id', '=', boxId)
    .executeTakeFirst();
  return row?.ends_at;
}
