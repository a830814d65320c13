import type { Kysely, Migration } from 'kysely';

/** Volumes, which boxes have them, and which devices a machine's memory was saved with. */
export const volumes: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('volumes')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('tenant', 'text', (c) => c.notNull())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('layer_id', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('size_bytes', 'bigint', (c) => c.notNull())
    .execute();
  await db.schema.createIndex('volumes_name').on('volumes').columns(['tenant', 'name']).unique().execute();
  await db.schema
    .createTable('box_volumes')
    .addColumn('box_id', 'text', (c) => c.notNull().references('boxes.id').onDelete('cascade'))
    .addColumn('slot', 'integer', (c) => c.notNull())
    .addColumn('volume_id', 'text', (c) => c.notNull().references('volumes.id'))
    .addColumn('guest_path', 'text', (c) => c.notNull())
    .addColumn('read_only', 'integer', (c) => c.notNull())
    .addPrimaryKeyConstraint('box_volumes_key', ['box_id', 'slot'])
    .execute();
  await db.schema
    .createIndex('box_volumes_volume')
    .on('box_volumes')
    .columns(['volume_id', 'box_id'])
    .unique()
    .execute();
  // What is there was made when a machine had other devices.
  for (const table of ['goldens', 'memories']) {
    await db.schema
      .alterTable(table)
      .addColumn('devices', 'integer', (c) => c.notNull().defaultTo(1))
      .execute();
  }
  await db.schema
    .alterTable('memories')
    .addColumn('volumes', 'text', (c) => c.notNull().defaultTo('[]'))
    .execute();
}
