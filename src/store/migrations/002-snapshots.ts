import type { Kysely, Migration } from 'kysely';

/** Snapshots of boxes. */
export const snapshots: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('snapshots')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('box_id', 'text', (c) => c.notNull().references('boxes.id').onDelete('cascade'))
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('parent_id', 'text')
    .addColumn('consistency', 'text', (c) => c.notNull())
    .addColumn('disk_size_gb', 'integer', (c) => c.notNull())
    .addColumn('golden_key', 'text', (c) => c.notNull())
    .addColumn('guest_layer', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('disk_layer', 'text', (c) => c.notNull().references('layers.id'))
    .execute();
  await db.schema
    .createIndex('snapshots_name')
    .on('snapshots')
    .columns(['box_id', 'name'])
    .unique()
    .execute();
  // The snapshot that a box's heads descend from.
  await db.schema.alterTable('boxes').addColumn('snapshot_id', 'text').execute();
}
