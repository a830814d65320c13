import type { IdempotencyKey, KeptRequest } from '../base/kept-request.js';
import type { Database } from './database.js';

/**
 * What is known of a key that was taken after `notBefore`; else it is taken for `request` now. Times are in milliseconds
 * since 1970.
 */
export async function takeKey(
  db: Database,
  { tenant, key }: IdempotencyKey,
  request: Pick<KeptRequest, 'fingerprint' | 'operationId'>,
  times: { readonly now: number; readonly notBefore: number },
): Promise<KeptRequest> {
  return await db.transaction().execute(async (tx) => {
    const found = await tx
      .selectFrom('idempotency_keys')
      .selectAll()
      .where('tenant', '=', tenant)
      .where('key', '=', key)
      .executeTakeFirst();
    if (found && found.created_at > times.notBefore) {
      return { fingerprint: found.fingerprint, operationId: found.operation_id, answer: found.answer };
    }
    const { fingerprint, operationId } = request;
    const row = { tenant, key, fingerprint, operation_id: operationId, created_at: times.now, answer: null };
    await tx.replaceInto('idempotency_keys').values(row).execute();
    return { fingerprint, operationId, answer: null };
  });
}

/** Keeps the answer of a request. */
export async function keepAnswer(
  db: Database,
  { tenant, key }: IdempotencyKey,
  answer: string,
): Promise<void> {
  await db
    .updateTable('idempotency_keys')
    .set({ answer })
    .where('tenant', '=', tenant)
    .where('key', '=', key)
    .execute();
}

/** Forgets the keys taken at `notAfter` or before, and the oldest of those beyond `maxKeys`. */
export async function forgetOldKeys(db: Database, notAfter: number, maxKeys: number): Promise<void> {
  await deleteUntil(db, notAfter);
  const last = await db
    .selectFrom('idempotency_keys')
    .select('created_at')
    .orderBy('created_at', 'desc')
    .offset(maxKeys)
    .limit(1)
    .executeTakeFirst();
  if (last) await deleteUntil(db, last.created_at);
}

async function deleteUntil(db: Database, createdAt: number): Promise<void> {
  await db.deleteFrom('idempotency_keys').where('created_at', '<=', createdAt).execute();
}
