import type { Kysely, Migration } from 'kysely';

/** Values of secrets that boxes use and never have. */
export const secrets: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('box_secrets')
    .addColumn('box_id', 'text', (c) => c.notNull().references('boxes.id').onDelete('cascade'))
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('sealed', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('box_secrets_pk', ['box_id', 'name'])
    .execute();
}
