import { faultPoint } from '../base/faults.js';
import { newId } from '../base/ids.js';
import type { Database } from '../store/index.js';

/** How long an answer is kept. */
const lifetimeMs = 3_600_000;
/** Keys kept at most, a few KiB each; beyond it the oldest go first. Made at ten a second they last two hours and more. */
const maxKeys = 100_000;
/** New keys between two looks for old ones. */
const sweepEvery = 100;

/** Whose key it is, and the key. */
export interface IdempotencyKey {
  readonly tenant: string;
  readonly key: string;
}

/** What is known of the request that a key was first used for. */
export interface KeptRequest {
  readonly fingerprint: string;
  /** What the request's boxes get their ids from, at every try. */
  readonly operationId: string;
  /** As it was given to {@link IdempotencyKeys.finish}, or null while there is none. */
  readonly answer: string | null;
}

/**
 * Keeps keys of requests in the home's database. A key is written before its request is begun, and the boxes' ids follow
 * from what is written: an engine that dies in between finds, at the next try, what was made.
 */
export class IdempotencyKeys {
  readonly #db: Database;
  #untilSweep = 0;

  constructor(db: Database) {
    this.#db = db;
  }

  /** What is known of a key used within an hour, else it is taken for the request with this fingerprint. */
  async begin({ tenant, key }: IdempotencyKey, fingerprint: string): Promise<KeptRequest> {
    const now = Date.now();
    if (this.#untilSweep === 0) await this.#sweep(now);
    this.#untilSweep = (this.#untilSweep + 1) % sweepEvery;
    return await this.#db.transaction().execute(async (tx) => {
      const found = await tx
        .selectFrom('idempotency_keys')
        .selectAll()
        .where('tenant', '=', tenant)
        .where('key', '=', key)
        .executeTakeFirst();
      if (found && found.created_at > now - lifetimeMs) {
        return { fingerprint: found.fingerprint, operationId: found.operation_id, answer: found.answer };
      }
      const operationId = newId('opn');
      const row = { tenant, key, fingerprint, operation_id: operationId, created_at: now, answer: null };
      await tx.replaceInto('idempotency_keys').values(row).execute();
      return { fingerprint, operationId, answer: null };
    });
  }

  /** Keeps the answer of a request. */
  async finish({ tenant, key }: IdempotencyKey, answer: string): Promise<void> {
    faultPoint('answer.keep:before');
    await this.#db
      .updateTable('idempotency_keys')
      .set({ answer })
      .where('tenant', '=', tenant)
      .where('key', '=', key)
      .execute();
    faultPoint('answer.keep:after');
  }

  async #sweep(now: number): Promise<void> {
    await this.#db
      .deleteFrom('idempotency_keys')
      .where('created_at', '<=', now - lifetimeMs)
      .execute();
    const last = await this.#db
      .selectFrom('idempotency_keys')
      .select('created_at')
      .orderBy('created_at', 'desc')
      .offset(maxKeys)
      .limit(1)
      .executeTakeFirst();
    if (last) {
      await this.#db.deleteFrom('idempotency_keys').where('created_at', '<=', last.created_at).execute();
    }
  }
}
