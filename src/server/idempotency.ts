import { createHash } from 'node:crypto';
import { CryoboxError } from '../errors.js';

/** How long an answer is remembered. */
const lifetimeMs = 3_600_000;
/** Answers remembered at most; an answer is a few KiB. */
const maxAnswers = 10_000;
const maxKeyLength = 255;

/** An answer that is given again. */
export interface RememberedAnswer {
  /** Hash of the request it answers. */
  readonly fingerprint: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly at: number;
}

/** Where answers to requests with an `Idempotency-Key` are kept for an hour. */
export interface IdempotencyStore {
  get(key: string): Promise<RememberedAnswer | undefined>;
  put(key: string, answer: RememberedAnswer): Promise<void>;
}

/** Keeps answers in memory: enough for retries, gone when the server ends. */
export class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #answers = new Map<string, RememberedAnswer>();

  async get(key: string): Promise<RememberedAnswer | undefined> {
    const answer = this.#answers.get(key);
    if (answer && Date.now() - answer.at > lifetimeMs) {
      this.#answers.delete(key);
      return undefined;
    }
    return answer;
  }

  async put(key: string, answer: RememberedAnswer): Promise<void> {
    this.#answers.set(key, answer);
    for (const [oldest, { at }] of this.#answers) {
      if (this.#answers.size <= maxAnswers && Date.now() - at <= lifetimeMs) break;
      this.#answers.delete(oldest);
    }
  }
}

/** What makes two requests the same: tenant, operation and everything asked for. */
export function fingerprintOf(parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** Answers that would be different another time, and are not remembered. */
function isPassing(status: number): boolean {
  return status >= 500 || status === 429 || status === 409 || status === 499;
}

/** Lets each key's request run once; another with the same key waits for it and gets its answer. */
export class Idempotency {
  readonly #store: IdempotencyStore;
  readonly #running = new Map<string, Promise<RememberedAnswer>>();

  constructor(store: IdempotencyStore) {
    this.#store = store;
  }

  /**
   * The answer remembered for the key, or that of `run`. `invalid_argument` when the key is too long or was used for
   * another request.
   */
  async answer(
    key: string,
    fingerprint: string,
    run: () => Promise<Omit<RememberedAnswer, 'fingerprint' | 'at'>>,
  ): Promise<RememberedAnswer & { readonly replayed: boolean }> {
    if (key.length === 0 || key.length > maxKeyLength) {
      throw new CryoboxError('invalid_argument', `Idempotency-Key must have 1 to ${maxKeyLength} characters`);
    }
    const running = this.#running.get(key);
    if (running !== undefined) return this.#again(await running, fingerprint);
    const first = this.#first(key, fingerprint, run);
    this.#running.set(key, first.answer);
    try {
      const answer = await first.answer;
      return first.fresh() ? { ...answer, replayed: false } : this.#again(answer, fingerprint);
    } finally {
      this.#running.delete(key);
    }
  }

  /** Looks the key up, and runs the request when it is new. Begins at once, so that others can wait for it. */
  #first(
    key: string,
    fingerprint: string,
    run: () => Promise<Omit<RememberedAnswer, 'fingerprint' | 'at'>>,
  ): { answer: Promise<RememberedAnswer>; fresh: () => boolean } {
    let fresh = false;
    const find = async (): Promise<RememberedAnswer> => {
      const known = await this.#store.get(key);
      if (known) return known;
      fresh = true;
      const answer = { ...(await run()), fingerprint, at: Date.now() };
      if (!isPassing(answer.status)) await this.#store.put(key, answer);
      return answer;
    };
    return { answer: find(), fresh: () => fresh };
  }

  #again(answer: RememberedAnswer, fingerprint: string): RememberedAnswer & { readonly replayed: true } {
    if (answer.fingerprint === fingerprint) return { ...answer, replayed: true };
    throw new CryoboxError('invalid_argument', 'This Idempotency-Key was used for another request', {
      hint: 'Use a new key for each request.',
    });
  }
}
