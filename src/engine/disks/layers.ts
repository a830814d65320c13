import type { Database, LayerRow } from '../../store/index.js';

/** The stored layer; a database that points at none is broken. */
export async function requireLayer(db: Database, id: string): Promise<LayerRow> {
  return await db.selectFrom('layers').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
}
