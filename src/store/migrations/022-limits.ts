import type { Kysely, Migration } from 'kysely';

/** What tenants, and the home as a whole, may have. */
export const limits: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('limits')
    .addColumn('scope', 'text', (c) => c.notNull())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('value', 'real', (c) => c.notNull())
    .addPrimaryKeyConstraint('limits_key', ['scope', 'name'])
    .execute();
  // Boxes that run are few, however many there are.
  await db.schema.createIndex('boxes_up').on('boxes').column('status').execute();
}
