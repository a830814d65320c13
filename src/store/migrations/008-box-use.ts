import type { Kysely, Migration } from 'kysely';

/** Whether a box was in use when its last use was written: an engine that was killed does not write its end. */
export const boxUse: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('boxes')
    .addColumn('in_use', 'integer', (c) => c.notNull().defaultTo(0))
    .execute();
}
