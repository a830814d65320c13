import type { Kysely, Migration } from 'kysely';

/** Ports of the host that lead to boxes. */
export const ports: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('ports')
    .addColumn('host_ip', 'text', (c) => c.notNull())
    .addColumn('host_port', 'integer', (c) => c.notNull())
    .addColumn('box_id', 'text', (c) => c.notNull().references('boxes.id').onDelete('cascade'))
    .addColumn('guest_port', 'integer', (c) => c.notNull())
    .addPrimaryKeyConstraint('ports_key', ['host_ip', 'host_port'])
    .execute();
  await db.schema.createIndex('ports_box').on('ports').column('box_id').execute();
}
