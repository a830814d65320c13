import type { Database } from './database.js';
import { valuesOf } from './values.js';

/** What is counted per box. */
export interface BoxCounts {
  commands: number;
  execErrors: number;
  bytesSent: number;
  bytesReceived: number;
}

/** The counters of these names that were ever written, by name. */
export async function readCounters(db: Database, names: readonly string[]): Promise<Map<string, number>> {
  const rows = await db.selectFrom('counters').selectAll().where('name', 'in', valuesOf(names)).execute();
  return new Map(rows.map((row) => [row.name, Number(row.value)]));
}

/** Adds to counters and to what boxes did, all or nothing. */
export async function addCounts(
  db: Database,
  counters: ReadonlyMap<string, number>,
  boxes: ReadonlyMap<string, BoxCounts>,
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    for (const [name, value] of counters) await addToCounter(tx, name, value);
    for (const [id, counts] of boxes) await addToBox(tx, id, counts);
  });
}

async function addToCounter(db: Database, name: string, value: number): Promise<void> {
  await db
    .insertInto('counters')
    .values({ name, value })
    .onConflict((c) => c.column('name').doUpdateSet((q) => ({ value: q('counters.value', '+', value) })))
    .execute();
}

async function addToBox(db: Database, id: string, counts: BoxCounts): Promise<void> {
  await db
    .updateTable('boxes')
    .set((q) => ({
      commands_total: q('commands_total', '+', counts.commands),
      exec_errors_total: q('exec_errors_total', '+', counts.execErrors),
      bytes_sent_total: q('bytes_sent_total', '+', counts.bytesSent),
      bytes_received_total: q('bytes_received_total', '+', counts.bytesReceived),
    }))
    .where('id', '=', id)
    .execute();
}
