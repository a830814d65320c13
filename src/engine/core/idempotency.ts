import { faultPoint } from '../../base/faults.js';
import { newId } from '../../base/ids.js';
import type { IdempotencyKey, KeptRequest } from '../../base/kept-request.js';
import { type Database, forgetOldKeys, keepAnswer, takeKey } from '../../store/index.js';

/** How long an answer is kept. */
const lifetimeMs = 3_600_000;
/** Keys kept at most, a few KiB each; beyond it the oldest go first. Made at ten a second they last two hours and more. */
const maxKeys = 100_000;
/** New keys between two looks for old ones. */
const sweepEvery = 100;

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
  async begin(key: IdempotencyKey, fingerprint: string): Promise<KeptRequest> {
    const now = Date.now();
    if (this.#untilSweep === 0) await forgetOldKeys(this.#db, now - lifetimeMs, maxKeys);
    this.#untilSweep = (this.#untilSweep + 1) % sweepEvery;
    const request = { fingerprint, operationId: newId('opn') };
    return await takeKey(this.#db, key, request, { now, notBefore: now - lifetimeMs });
  }

  /** Keeps the answer of a request. */
  async finish(key: IdempotencyKey, answer: string): Promise<void> {
    faultPoint('answer.keep:before');
    await keepAnswer(this.#db, key, answer);
    faultPoint('answer.keep:after');
  }
}
