import type { Kysely, Migration } from 'kysely';

/** When the runs of boxes end that last no longer than their owners said. */
export const runEnds: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('run_ends')
    .addColumn('box_id', 'text', (c) => c.primaryKey().references('boxes.id').onDelete('cascade'))
    .addColumn('ends_at', 'integer', (c) => c.notNull())
    .execute();
}
