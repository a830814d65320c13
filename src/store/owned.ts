import type { Database } from './database.js';
import type { TemplateRow, VolumeRow } from './schema.js';

/** What tenants have beside boxes, and find by name or id. */
interface OwnedRows {
  templates: TemplateRow;
  volumes: VolumeRow;
}

/** All that a tenant has of a kind, oldest first. */
export async function listOwned<T extends keyof OwnedRows>(
  db: Database,
  table: T,
  tenant: string,
): Promise<OwnedRows[T][]> {
  const rows = await owned(db, table, tenant).orderBy('created_at').orderBy('id').execute();
  return rows as unknown[] as OwnedRows[T][];
}

/** The one of a tenant with that name or id. */
export async function findOwned<T extends keyof OwnedRows>(
  db: Database,
  table: T,
  tenant: string,
  nameOrId: string,
): Promise<OwnedRows[T] | undefined> {
  const row = await owned(db, table, tenant)
    .where((q) => q.or([q('id', '=', nameOrId), q('name', '=', nameOrId)]))
    .executeTakeFirst();
  return row as unknown as OwnedRows[T] | undefined;
}

/** The tables have the columns in common that these statements name. */
function owned(db: Database, table: keyof OwnedRows, tenant: string) {
  return db
    .selectFrom(table as 'volumes')
    .selectAll()
    .where('tenant', '=', tenant);
}
