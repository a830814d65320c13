import type { Kysely, Migration } from 'kysely';

async function up(db: Kysely<unknown>): Promise<void> {
  await createMemories(db);
  await createTemplates(db);
  // A golden machine without a type is of an earlier format, whose memory is no layer: it is made again.
  await db.schema
    .alterTable('goldens')
    .addColumn('machine_type', 'text', (c) => c.notNull().defaultTo(''))
    .execute();
  await db.schema.alterTable('boxes').addColumn('memory_id', 'text').execute();
  await db.schema.alterTable('snapshots').addColumn('memory_id', 'text').execute();
  await db.schema.alterTable('machines').addColumn('memory_id', 'text').execute();
  await db.schema.alterTable('machines').addColumn('base_layer', 'text').execute();
  await db.schema.alterTable('machines').addColumn('pager_pid', 'integer').execute();
  await db.schema.alterTable('machines').addColumn('pager_ticks', 'bigint').execute();
}

async function createMemories(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('memories')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('layer_id', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('state_layer', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('guest_layer', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('disk_layer', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('working_set', 'text', (c) => c.references('layers.id'))
    .addColumn('golden_key', 'text', (c) => c.notNull())
    .addColumn('cpus', 'integer', (c) => c.notNull())
    .addColumn('memory_mib', 'integer', (c) => c.notNull())
    .addColumn('accelerator', 'text', (c) => c.notNull())
    .addColumn('qemu_version', 'text', (c) => c.notNull())
    .addColumn('machine_type', 'text', (c) => c.notNull())
    .addColumn('cpu_model', 'text', (c) => c.notNull())
    .addColumn('kernel_version', 'text', (c) => c.notNull())
    .addColumn('assets_key', 'text', (c) => c.notNull())
    .addColumn('run', 'text', (c) => c.notNull())
    .execute();
}

async function createTemplates(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('templates')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('tenant', 'text', (c) => c.notNull())
    .addColumn('name', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('memory_id', 'text', (c) => c.notNull().references('memories.id'))
    .addColumn('image', 'text', (c) => c.notNull())
    .addColumn('cpus', 'integer', (c) => c.notNull())
    .addColumn('memory_mib', 'integer', (c) => c.notNull())
    .addColumn('disk_size_gb', 'integer', (c) => c.notNull())
    .addColumn('config', 'text', (c) => c.notNull())
    .execute();
  await db.schema
    .createIndex('templates_name')
    .on('templates')
    .columns(['tenant', 'name'])
    .unique()
    .execute();
}

/** Memory of boxes: what a machine is restored from, who refers to it, and templates. */
export const memory: Migration = { up };
