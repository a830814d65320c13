import type { Kysely, Migration } from 'kysely';

/** Boxes that leave for other homes: how often each has moved, and what of those that left the store is still to be told. */
export const departures: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  // After the trigger of 021, so it is no part of what counts as a change: a box gets it once in each home.
  await db.schema
    .alterTable('boxes')
    .addColumn('epoch', 'integer', (c) => c.notNull().defaultTo(1))
    .execute();
  await db.schema
    .createTable('departures')
    .addColumn('box_id', 'text', (c) => c.notNull())
    .addColumn('epoch', 'integer', (c) => c.notNull())
    .addColumn('store', 'text', (c) => c.notNull())
    .addColumn('manifest', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('departures_pk', ['box_id', 'epoch'])
    .execute();
}
