import { type Kysely, type Migration, sql } from 'kysely';

/** Homes of many boxes: pages of a list by an index, the end of layers by indexes, and what a start has to look at. */
export const manyBoxes: Migration = { up };

/** Columns that refer to a layer. Without an index, deleting one reads the whole table. */
const layerColumns = [
  ['boxes', 'guest_head'],
  ['boxes', 'disk_head'],
  ['snapshots', 'guest_layer'],
  ['snapshots', 'disk_layer'],
  ['memories', 'layer_id'],
  ['memories', 'state_layer'],
  ['memories', 'guest_layer'],
  ['memories', 'disk_layer'],
  ['memories', 'working_set'],
] as const;

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.createIndex('boxes_order').on('boxes').columns(['tenant', 'created_at', 'id']).execute();
  await db.schema
    .createIndex('boxes_status')
    .on('boxes')
    .columns(['tenant', 'status', 'created_at', 'id'])
    .execute();
  await db.schema.createIndex('boxes_auto_delete').on('boxes').column('auto_delete').execute();
  for (const [table, column] of layerColumns) {
    await db.schema.createIndex(`${table}_${column}`).on(table).column(column).execute();
  }
  await db.schema
    .createTable('unfinished')
    .addColumn('what', 'text', (c) => c.primaryKey())
    .execute();
  // Nobody wrote down yet which memories a merge has replaced: all are looked at once.
  await sql`insert into unfinished select 'memory:' || id from memories`.execute(db);
}
