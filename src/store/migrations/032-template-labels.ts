import type { Kysely, Migration } from 'kysely';

/** Labels of templates, as boxes have them. */
export const templateLabels: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('templates')
    .addColumn('labels', 'text', (c) => c.notNull().defaultTo('{}'))
    .execute();
}
