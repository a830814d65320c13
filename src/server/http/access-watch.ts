import type { Logger } from '../../base/log.js';
import { isCryoboxError, messageOf } from '../../errors.js';

/** How often the keys of what is open are looked at again: a revoked key's streams end within this and a moment. */
const lookEveryMs = 2000;

/** Something that stays open after its key was looked at: an answer that streams, a WebSocket, a tunnel. */
interface Opened {
  /** The `Authorization` header it was opened with. */
  readonly authorization: string | undefined;
  readonly end: () => void;
}

/** Ends what was opened with a key that was revoked or has expired, or without one before keys were asked for. */
export class AccessWatch {
  readonly #check: (authorization: string | undefined) => Promise<unknown>;
  readonly #logger: Logger;
  readonly #opened = new Set<Opened>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `check` throws `unauthenticated` when a request with that header would be refused now. */
  constructor(check: (authorization: string | undefined) => Promise<unknown>, logger: Logger) {
    this.#check = check;
    this.#logger = logger;
  }

  /** Calls `end`, once, when the key does not hold any more; not after the result was called. */
  add(authorization: string | undefined, end: () => void): () => void {
    const opened = { authorization, end };
    this.#opened.add(opened);
    this.#lookSoon();
    return () => this.#opened.delete(opened);
  }

  /** Whether a request with that `Authorization` header would be let in now. */
  async allows(authorization: string | undefined): Promise<boolean> {
    try {
      await this.#check(authorization);
      return true;
    } catch (error) {
      if (isCryoboxError(error, 'unauthenticated')) return false;
      throw error;
    }
  }

  /** Looks at no key any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#opened.clear();
  }

  #lookSoon(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#look()
        .catch((error: unknown) => this.#logger.warn('cannot look at keys', { error: messageOf(error) }))
        .finally(() => {
          this.#timer = undefined;
          if (this.#opened.size > 0) this.#lookSoon();
        });
    }, lookEveryMs).unref();
  }

  async #look(): Promise<void> {
    for (const authorization of new Set([...this.#opened].map((each) => each.authorization))) {
      if (await this.allows(authorization)) continue;
      for (const opened of this.#opened) {
        if (opened.authorization !== authorization) continue;
        this.#opened.delete(opened);
        opened.end();
      }
    }
  }
}
