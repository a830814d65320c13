import type { Kysely, Migration } from 'kysely';

/** Addresses of their own for ports of boxes. */
export const previews: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('previews')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('box_id', 'text', (c) => c.notNull().references('boxes.id').onDelete('cascade'))
    .addColumn('guest_port', 'integer', (c) => c.notNull())
    .addColumn('token_hash', 'text')
    .addColumn('created_at', 'integer', (c) => c.notNull())
    .execute();
  await db.schema.createIndex('previews_box').on('previews').column('box_id').execute();
}
