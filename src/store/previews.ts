import type { Database } from './database.js';
import type { PreviewRow } from './schema.js';

/** Stores a preview. */
export async function insertPreview(tx: Database, row: PreviewRow): Promise<void> {
  await tx.insertInto('previews').values(row).execute();
}

/** Forgets a preview. */
export async function deletePreview(tx: Database, id: string): Promise<void> {
  await tx.deleteFrom('previews').where('id', '=', id).execute();
}

/** Previews of a box, oldest first. */
export async function previewsOf(db: Database, boxId: string): Promise<PreviewRow[]> {
  return await db
    .selectFrom('previews')
    .selectAll()
    .where('box_id', '=', boxId)
    .orderBy('created_at')
    .orderBy('id')
    .execute();
}

/** A preview, and whose box it is of; undefined when there is none. */
export async function findPreview(
  db: Database,
  id: string,
): Promise<(PreviewRow & { readonly tenant: string }) | undefined> {
  return await db
    .selectFrom('previews')
    .innerJoin('boxes', 'boxes.id', 'previews.box_id')
    .selectAll('previews')
    .select('boxes.tenant')
    .where('previews.id', '=', id)
    .executeTakeFirst();
}
