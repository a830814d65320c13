import { createHash, type Hash } from 'node:crypto';
import type { ByteSource } from '../../api/index.js';
import { newId } from '../../base/ids.js';
import type { IdempotencyKey, KeptRequest } from '../../base/kept-request.js';
import { CryoboxError } from '../../errors.js';

/** How long {@link MemoryIdempotencyStore} keeps an answer. */
const lifetimeMs = 3_600_000;
/** Answers it keeps at most; an answer is a few KiB. */
const maxAnswers = 10_000;
const maxKeyLength = 255;

/** An answer that is given again. */
export interface PlainAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Hash of the bytes uploaded with the request it answers. */
  readonly uploadHash?: string;
}

/** Where requests with an `Idempotency-Key` are kept for an hour. */
export interface IdempotencyStore {
  /** What is known of a key, else it is taken for the request with this fingerprint. */
  begin(key: IdempotencyKey, fingerprint: string): Promise<KeptRequest>;
  /** Keeps the answer of a request that was begun. */
  finish(key: IdempotencyKey, answer: string): Promise<void>;
}

/** Keeps answers in memory: enough for retries, gone when the server ends. */
export class MemoryIdempotencyStore implements IdempotencyStore {
  readonly #kept = new Map<string, KeptRequest & { readonly at: number }>();

  async begin(key: IdempotencyKey, fingerprint: string): Promise<KeptRequest> {
    const name = nameOf(key);
    const now = Date.now();
    const known = this.#kept.get(name);
    if (known && now - known.at <= lifetimeMs) return known;
    const request = { fingerprint, operationId: newId('opn'), answer: null, at: now };
    this.#kept.delete(name);
    this.#kept.set(name, request);
    for (const [oldest, { at }] of this.#kept) {
      if (this.#kept.size <= maxAnswers && now - at <= lifetimeMs) break;
      this.#kept.delete(oldest);
    }
    return request;
  }

  async finish(key: IdempotencyKey, answer: string): Promise<void> {
    const known = this.#kept.get(nameOf(key));
    if (known) this.#kept.set(nameOf(key), { ...known, answer });
  }
}

const nameOf = ({ tenant, key }: IdempotencyKey): string => JSON.stringify([tenant, key]);

/** What makes two requests the same: tenant, operation and everything asked for. */
export function fingerprintOf(parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** Passes an upload on and hashes it. */
export class HashedUpload implements ByteSource {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #hash: Hash = createHash('sha256');
  #ended = false;

  constructor(source: ByteSource) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** A reader may leave before the end; the rest is hashed with {@link digest}. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    while (!this.#ended) {
      const next = await this.#source.next();
      if (next.done) {
        this.#ended = true;
        return;
      }
      this.#hash.update(next.value);
      yield next.value;
    }
  }

  /** Hash of the whole upload; reads what nobody has read. To be called once. */
  async digest(): Promise<string> {
    for await (const _chunk of this);
    return this.#hash.digest('hex');
  }
}

/** One request that is to run once. */
export interface Once {
  readonly key: IdempotencyKey;
  readonly fingerprint: string;
  /** Hash of what is uploaded with it; asked for when a known answer is to be given, which it must belong to. */
  readonly uploadHash?: () => Promise<string>;
  /** Runs it. With the same `operationId` it makes the same boxes, whatever became of an earlier run. */
  readonly run: (operationId: string) => Promise<PlainAnswer>;
}

/** Answers that would be different another time, and are not remembered: what came of an upload that broke, too. */
function isPassing({ status, uploadHash }: PlainAnswer, once: Once): boolean {
  if (once.uploadHash && uploadHash === undefined) return true;
  return status >= 500 || status === 429 || status === 409 || status === cancelledStatus;
}

/** The client of a request went away. */
const cancelledStatus = 499;

interface Outcome {
  readonly fingerprint: string;
  readonly answer: PlainAnswer;
  readonly replayed: boolean;
}

/** Lets each key's request run once; another with the same key waits for it and gets its answer. */
export class Idempotency {
  readonly #store: IdempotencyStore;
  readonly #running = new Map<string, Promise<Outcome>>();

  constructor(store: IdempotencyStore) {
    this.#store = store;
  }

  /**
   * The answer remembered for the key, or that of a run. `invalid_argument` when the key is too long or was used for
   * another request.
   */
  async answer(once: Once): Promise<PlainAnswer & { readonly replayed: boolean }> {
    const { key } = once.key;
    if (key.length === 0 || key.length > maxKeyLength) {
      throw new CryoboxError('invalid_argument', `Idempotency-Key must have 1 to ${maxKeyLength} characters`);
    }
    const name = nameOf(once.key);
    for (let other = this.#running.get(name); other; other = this.#running.get(name)) {
      const outcome = await other.catch(() => undefined);
      // The other was refused, or its client went away; this one is still there.
      if (!outcome || outcome.answer.status === cancelledStatus) continue;
      return await again(outcome, once);
    }
    const first = this.#first(once);
    this.#running.set(name, first);
    try {
      const outcome = await first;
      return outcome.replayed ? await again(outcome, once) : { ...outcome.answer, replayed: false };
    } finally {
      this.#running.delete(name);
    }
  }

  /** Looks the key up, and runs the request when it has no answer. Begins at once, so that others can wait for it. */
  async #first(once: Once): Promise<Outcome> {
    const { key, fingerprint, run } = once;
    const kept = await this.#store.begin(key, fingerprint);
    if (kept.answer !== null) {
      const answer = JSON.parse(kept.answer) as PlainAnswer;
      return { fingerprint: kept.fingerprint, answer, replayed: true };
    }
    refuseOther(kept.fingerprint, fingerprint);
    const answer = await run(kept.operationId);
    if (!isPassing(answer, once)) await this.#store.finish(key, JSON.stringify(answer));
    return { fingerprint, answer, replayed: false };
  }
}

async function again(
  { fingerprint, answer }: Outcome,
  once: Once,
): Promise<PlainAnswer & { readonly replayed: true }> {
  refuseOther(fingerprint, once.fingerprint);
  if (answer.uploadHash !== undefined) refuseOther(answer.uploadHash, (await once.uploadHash?.()) ?? '');
  return { ...answer, replayed: true };
}

function refuseOther(first: string, now: string): void {
  if (first === now) return;
  throw new CryoboxError('invalid_argument', 'This Idempotency-Key was used for another request', {
    hint: 'Use a new key for each request.',
  });
}
