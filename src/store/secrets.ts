import type { Database } from './database.js';
import type { SecretRow } from './schema.js';

/** Stores values of secrets in place of those of the same names. */
export async function putSecrets(tx: Database, rows: readonly SecretRow[]): Promise<void> {
  for (const row of rows) {
    await tx
      .insertInto('box_secrets')
      .values(row)
      .onConflict((conflict) => conflict.columns(['box_id', 'name']).doUpdateSet({ sealed: row.sealed }))
      .execute();
  }
}

/** Forgets the value of a secret. */
export async function deleteSecret(tx: Database, boxId: string, name: string): Promise<void> {
  await tx.deleteFrom('box_secrets').where('box_id', '=', boxId).where('name', '=', name).execute();
}

/** Values of the secrets of a box, as they are kept. */
export async function secretsOf(db: Database, boxId: string): Promise<SecretRow[]> {
  return await db.selectFrom('box_secrets').selectAll().where('box_id', '=', boxId).orderBy('name').execute();
}
