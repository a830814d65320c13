import type { Kysely, Migration } from 'kysely';

/** Boxes whose ports everybody reaches who knows their address. */
export const inbound: Migration = { up };

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('public_boxes')
    .addColumn('box_id', 'text', (c) => c.primaryKey().references('boxes.id').onDelete('cascade'))
    .execute();
}
