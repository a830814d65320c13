import { CryoboxError } from '../errors.js';

/** What a promise gives, unless the signal is aborted first: then `cancelled`. The work itself goes on. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await work;
  if (signal.aborted) {
    // Nobody waits for it any more.
    work.catch(() => undefined);
    throwIfCancelled(signal, 'the call');
  }
  let stop: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    const fail = (): void =>
      reject(new CryoboxError('cancelled', 'the call was cancelled', { cause: signal.reason }));
    signal.addEventListener('abort', fail, { once: true });
    stop = () => signal.removeEventListener('abort', fail);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    stop();
  }
}

/** Throws `cancelled` when the signal of a call has been raised. `what` names the call. */
export function throwIfCancelled(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) {
    throw new CryoboxError('cancelled', `${what} was cancelled`, { cause: signal.reason });
  }
}
