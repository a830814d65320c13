import type { Database } from './database.js';

/** Ids of all rows of a table. */
export async function idsOf(db: Database, table: 'boxes' | 'layers'): Promise<Set<string>> {
  const rows = await db.selectFrom(table).select('id').execute();
  return new Set(rows.map(({ id }) => id));
}
