import type { Database } from './database.js';
import type { TemplateRow } from './schema.js';

/** Stores a template; with `overwrite` it takes the place of the tenant's one of that name. */
export async function insertTemplate(
  tx: Database,
  row: TemplateRow,
  options: { readonly overwrite: boolean },
): Promise<void> {
  if (options.overwrite) {
    await tx.deleteFrom('templates').where('tenant', '=', row.tenant).where('name', '=', row.name).execute();
  }
  await tx.insertInto('templates').values(row).execute();
}

/** Deletes a template; its memory stays as long as something else refers to it. */
export async function deleteTemplate(tx: Database, id: string): Promise<void> {
  await tx.deleteFrom('templates').where('id', '=', id).execute();
}
