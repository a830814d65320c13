import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfCancelled } from '../base/abort.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { objectLimits } from './object-store.js';

/** A failure that may pass. */
export class PassingFailure extends Error {
  override readonly name = 'PassingFailure';
}

/** There is no such object. */
export function noObject(store: string, key: string): CryoboxError {
  return new CryoboxError('not_found', `there is no object ${key} in ${store}`, { details: { key } });
}

/** There is an object of that key already. */
export function objectExists(store: string, key: string): CryoboxError {
  return new CryoboxError('already_exists', `there is an object ${key} in ${store} already`, {
    details: { key },
  });
}

/** An object is not what it should be. */
export function damagedObject(store: string, key: string, what: string): CryoboxError {
  return new CryoboxError('integrity', `object ${key} in ${store} ${what}`, {
    details: { key },
    hint: 'Restore the object from a copy of the store, or leave out what needs it.',
  });
}

/**
 * Runs one attempt after the other while they fail in a way that may pass, each with a signal that ends it in time.
 * Throws `upstream_unavailable` after the last one, `cancelled`, and what an attempt throws otherwise.
 */
export async function attempts<T>(
  what: string,
  signal: AbortSignal | undefined,
  attempt: (signal: AbortSignal, count: number) => Promise<T>,
): Promise<T> {
  for (let count = 1; ; count += 1) {
    throwIfCancelled(signal, what);
    const inTime = AbortSignal.timeout(objectLimits.attemptMs);
    try {
      return await attempt(signal ? AbortSignal.any([signal, inTime]) : inTime, count);
    } catch (error) {
      throwIfCancelled(signal, what);
      if (isCryoboxError(error)) throw error;
      const passes = error instanceof PassingFailure || inTime.aborted;
      if (!passes) throw error;
      const why = inTime.aborted ? `no answer within ${objectLimits.attemptMs} ms` : messageOf(error);
      if (count >= objectLimits.attempts) throw unavailable(what, why, error);
      const range = Math.min(objectLimits.longestPauseMs, objectLimits.firstPauseMs * 2 ** count);
      await sleep(Math.random() * range, undefined, signal ? { signal } : {}).catch(() => undefined);
    }
  }
}

function unavailable(what: string, why: string, cause: unknown): CryoboxError {
  return new CryoboxError(
    'upstream_unavailable',
    `${what} failed ${objectLimits.attempts} times, at last with: ${why}`,
    { cause, hint: 'Check that the object store is up and reached from this host, then try again.' },
  );
}
