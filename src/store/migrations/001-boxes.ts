import type { Kysely, Migration } from 'kysely';

/** The first schema: boxes, layers, golden machines, images and machines. */
export const boxes: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await createLayers(db);
  await createBoxes(db);
  await createGoldens(db);
  await createImages(db);
  await db.schema
    .createTable('machines')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('box_id', 'text')
    .addColumn('pid', 'integer', (c) => c.notNull())
    .addColumn('start_ticks', 'bigint', (c) => c.notNull())
    .addColumn('host_boot', 'text', (c) => c.notNull())
    .addColumn('uid', 'bigint')
    .addColumn('gid', 'bigint')
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute();
  await db.schema
    .createTable('counters')
    .addColumn('name', 'text', (c) => c.primaryKey())
    .addColumn('value', 'bigint', (c) => c.notNull())
    .execute();
  await db.schema
    .createTable('meta')
    .addColumn('key', 'text', (c) => c.primaryKey())
    .addColumn('value', 'text', (c) => c.notNull())
    .execute();
}

async function createLayers(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('layers')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('kind', 'text', (c) => c.notNull())
    .addColumn('parent_id', 'text', (c) => c.references('layers.id'))
    .addColumn('state', 'text', (c) => c.notNull())
    .addColumn('virtual_bytes', 'bigint', (c) => c.notNull())
    .addColumn('size_bytes', 'bigint', (c) => c.notNull())
    .addColumn('sha256', 'text')
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute();
  await db.schema.createIndex('layers_parent').on('layers').column('parent_id').execute();
  await db.schema
    .createTable('layer_holds')
    .addColumn('layer_id', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('holder', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('layer_holds_key', ['holder', 'layer_id'])
    .execute();
  await db.schema.createIndex('layer_holds_layer').on('layer_holds').column('layer_id').execute();
}

async function createBoxes(db: Kysely<unknown>): Promise<void> {
  const counter = 'bigint';
  await db.schema
    .createTable('boxes')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('tenant', 'text', (c) => c.notNull())
    .addColumn('name', 'text')
    .addColumn('status', 'text', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .addColumn('updated_at', 'bigint', (c) => c.notNull())
    .addColumn('image', 'text', (c) => c.notNull())
    .addColumn('template', 'text')
    .addColumn('cpus', 'integer', (c) => c.notNull())
    .addColumn('memory_mib', 'integer', (c) => c.notNull())
    .addColumn('disk_size_gb', 'integer', (c) => c.notNull())
    .addColumn('config', 'text', (c) => c.notNull())
    .addColumn('auto_stop', 'integer', (c) => c.notNull())
    .addColumn('auto_stop_action', 'text', (c) => c.notNull())
    .addColumn('auto_delete', 'integer', (c) => c.notNull())
    .addColumn('auto_resume', 'integer', (c) => c.notNull())
    .addColumn('detach', 'integer', (c) => c.notNull())
    .addColumn('labels', 'text', (c) => c.notNull())
    .addColumn('guest_head', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('disk_head', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('golden_key', 'text', (c) => c.notNull())
    .addColumn('failure', 'text')
    .addColumn('stages', 'text', (c) => c.notNull())
    .addColumn('last_active_at', 'bigint', (c) => c.notNull())
    .addColumn('commands_total', counter, (c) => c.notNull().defaultTo(0))
    .addColumn('exec_errors_total', counter, (c) => c.notNull().defaultTo(0))
    .addColumn('bytes_sent_total', counter, (c) => c.notNull().defaultTo(0))
    .addColumn('bytes_received_total', counter, (c) => c.notNull().defaultTo(0))
    .execute();
  // A box without a name holds NULL, which is never equal to another NULL.
  await db.schema.createIndex('boxes_name').on('boxes').columns(['tenant', 'name']).unique().execute();
}

async function createGoldens(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('goldens')
    .addColumn('key', 'text', (c) => c.primaryKey())
    .addColumn('accelerator', 'text', (c) => c.notNull())
    .addColumn('cpus', 'integer', (c) => c.notNull())
    .addColumn('memory_mib', 'integer', (c) => c.notNull())
    .addColumn('qemu_version', 'text', (c) => c.notNull())
    .addColumn('assets_key', 'text', (c) => c.notNull())
    .addColumn('kernel_version', 'text', (c) => c.notNull())
    .addColumn('ram_layer', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('state_layer', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('guest_layer', 'text', (c) => c.notNull().references('layers.id'))
    .addColumn('boot_ms', 'integer', (c) => c.notNull())
    .addColumn('created_at', 'bigint', (c) => c.notNull())
    .execute();
}

async function createImages(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('images')
    .addColumn('id', 'text', (c) => c.primaryKey())
    .addColumn('tenant', 'text', (c) => c.notNull())
    .addColumn('reference', 'text', (c) => c.notNull())
    .addColumn('repository', 'text', (c) => c.notNull())
    .addColumn('tag', 'text', (c) => c.notNull())
    .addColumn('manifest_digest', 'text', (c) => c.notNull())
    .addColumn('config_digest', 'text', (c) => c.notNull())
    .addColumn('config', 'text', (c) => c.notNull())
    .addColumn('layers', 'text', (c) => c.notNull())
    .addColumn('size_bytes', 'bigint', (c) => c.notNull())
    .addColumn('cached_at', 'bigint', (c) => c.notNull())
    .execute();
  await db.schema
    .createIndex('images_reference')
    .on('images')
    .columns(['tenant', 'reference'])
    .unique()
    .execute();
  await db.schema
    .createTable('image_disks')
    .addColumn('manifest_digest', 'text', (c) => c.notNull())
    .addColumn('size_gb', 'integer', (c) => c.notNull())
    .addColumn('layer_id', 'text', (c) => c.notNull().references('layers.id'))
    .addPrimaryKeyConstraint('image_disks_key', ['manifest_digest', 'size_gb'])
    .execute();
}
