import type { Database } from './database.js';
import type { ApiKeyRow } from './schema.js';

const everMadeKey = 'api_keys_ever_made';

/** Stores a new key of the REST API. */
export async function insertApiKey(db: Database, row: ApiKeyRow): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await rememberKeys(tx);
    await tx.insertInto('api_keys').values(row).execute();
  });
}

/** The stored key of that id, expired or not. */
export async function findApiKey(db: Database, id: string): Promise<ApiKeyRow | undefined> {
  return await db.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst();
}

/** All keys, oldest first, expired ones too. */
export async function listApiKeys(db: Database): Promise<ApiKeyRow[]> {
  return await db.selectFrom('api_keys').selectAll().orderBy('created_at').execute();
}

/** Whether there is a key; it may have expired. */
export async function hasApiKeys(db: Database): Promise<boolean> {
  return (await db.selectFrom('api_keys').select('id').limit(1).execute()).length > 0;
}

/** Whether there ever was a key, deleted ones included. */
export async function everHadApiKeys(db: Database): Promise<boolean> {
  if (await hasApiKeys(db)) return true;
  const had = await db.selectFrom('meta').select('key').where('key', '=', everMadeKey).execute();
  return had.length > 0;
}

/** Deletes a key; returns whether it was there. */
export async function deleteApiKey(db: Database, id: string): Promise<boolean> {
  return await db.transaction().execute(async (tx) => {
    const { numDeletedRows } = await tx.deleteFrom('api_keys').where('id', '=', id).executeTakeFirst();
    if (numDeletedRows > 0n) await rememberKeys(tx);
    return numDeletedRows > 0n;
  });
}

/** Kept when all keys are deleted: a home that had keys is not opened to everybody by deleting the last one. */
async function rememberKeys(tx: Database): Promise<void> {
  await tx
    .insertInto('meta')
    .values({ key: everMadeKey, value: 'true' })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}
