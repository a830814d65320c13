import { type Kysely, type Migration, sql } from 'kysely';

/** What of a home lies in an object store: the number of each box's record, and which one is there. */
export const replicas: Migration = { up };

/** Columns that are not part of what a box comes back as. */
const counters = [
  'updated_at',
  'last_active_at',
  'in_use',
  'stages',
  'commands_total',
  'exec_errors_total',
  'bytes_sent_total',
  'bytes_received_total',
  'record_version',
];

async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable('boxes')
    .addColumn('record_version', 'integer', (c) => c.notNull().defaultTo(0))
    .execute();
  await db.schema
    .createTable('replicas')
    .addColumn('box_id', 'text', (c) => c.primaryKey().references('boxes.id').onDelete('cascade'))
    .addColumn('store', 'text', (c) => c.notNull())
    .addColumn('version', 'integer', (c) => c.notNull())
    .execute();
  // Counted by the database, in the transaction of the change, whoever makes it: no change can be forgotten.
  const { rows } = await sql<{ name: string }>`select name from pragma_table_info('boxes')`.execute(db);
  const columns = rows.map(({ name }) => name).filter((name) => !counters.includes(name));
  const named = sql.join(columns.map((name) => sql.ref(name)));
  const changed = sql.join(
    columns.map((name) => sql`old.${sql.ref(name)} is not new.${sql.ref(name)}`),
    sql` or `,
  );
  await sql`create trigger box_changed after update of ${named} on boxes when ${changed} begin
    update boxes set record_version = record_version + 1 where id = new.id; end`.execute(db);
  await sql`create trigger snapshot_made after insert on snapshots begin
    update boxes set record_version = record_version + 1 where id = new.box_id; end`.execute(db);
  await sql`create trigger snapshot_removed after delete on snapshots begin
    update boxes set record_version = record_version + 1 where id = old.box_id; end`.execute(db);
}
