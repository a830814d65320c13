import type { Database } from './database.js';
import type { BoxRow, ImageRow } from './schema.js';

/** The image that a tenant's reference names. */
export async function findImage(
  db: Database,
  tenant: string,
  reference: string,
): Promise<ImageRow | undefined> {
  return await db
    .selectFrom('images')
    .selectAll()
    .where('tenant', '=', tenant)
    .where('reference', '=', reference)
    .executeTakeFirst();
}

/** An image of a tenant whose configuration's digest begins so: `sha256:` and hex digits. */
export async function findImageByDigest(
  db: Database,
  tenant: string,
  digest: string,
): Promise<ImageRow | undefined> {
  return await db
    .selectFrom('images')
    .selectAll()
    .where('tenant', '=', tenant)
    .where('config_digest', 'like', `${digest}%`)
    .executeTakeFirst();
}

/** The images of a tenant, in the order of their references. */
export async function listImages(db: Database, tenant: string): Promise<ImageRow[]> {
  return await db
    .selectFrom('images')
    .selectAll()
    .where('tenant', '=', tenant)
    .orderBy('reference')
    .execute();
}

/** The images of a tenant whose references have a name, whatever their tags; the newest first. */
export async function listImagesOfRepository(
  db: Database,
  tenant: string,
  repository: string,
): Promise<ImageRow[]> {
  return await db
    .selectFrom('images')
    .selectAll()
    .where('tenant', '=', tenant)
    .where('repository', '=', repository)
    .orderBy('cached_at', 'desc')
    .orderBy('id', 'desc')
    .execute();
}

/** Adds a reference to an image. Throws a unique violation when the tenant has it already. */
export async function insertImage(tx: Database, row: ImageRow): Promise<void> {
  await tx.insertInto('images').values(row).execute();
}

/** Makes a tenant's reference point at an image; returns what it pointed at before. */
export async function putImage(tx: Database, row: ImageRow): Promise<ImageRow | undefined> {
  const old = await findImage(tx, row.tenant, row.reference);
  const { manifest_digest, config_digest, config, layers, size_bytes, cached_at } = row;
  const facts = { manifest_digest, config_digest, config, layers, size_bytes, cached_at };
  await tx
    .insertInto('images')
    .values(row)
    .onConflict((c) => c.columns(['tenant', 'reference']).doUpdateSet(facts))
    .execute();
  return old;
}

/** Deletes a reference; what it points at stays. */
export async function deleteImage(tx: Database, id: string): Promise<void> {
  await tx.deleteFrom('images').where('id', '=', id).execute();
}

/** The digests of what references of all tenants need. */
export async function neededByImages(
  db: Database,
): Promise<Pick<ImageRow, 'manifest_digest' | 'config_digest' | 'layers'>[]> {
  return await db.selectFrom('images').select(['manifest_digest', 'config_digest', 'layers']).execute();
}

/** The boxes of a tenant that were made from a reference. */
export async function boxesOfImage(
  db: Database,
  tenant: string,
  reference: string,
): Promise<Pick<BoxRow, 'id' | 'name'>[]> {
  return await db
    .selectFrom('boxes')
    .select(['id', 'name'])
    .where('tenant', '=', tenant)
    .where('image', '=', reference)
    .execute();
}
