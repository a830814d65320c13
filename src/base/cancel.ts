import { CryoboxError } from '../errors.js';

/** Throws `cancelled` when the signal of a call has been raised. `what` names the call. */
export function throwIfCancelled(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) {
    throw new CryoboxError('cancelled', `${what} was cancelled`, { cause: signal.reason });
  }
}
