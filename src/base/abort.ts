import { CryoboxError } from '../errors.js';

/** What a promise gives, unless the signal is aborted first: then `cancelled`. The work itself goes on. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await work;
  let stop: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    const fail = (): void =>
      reject(new CryoboxError('cancelled', 'the call was cancelled', { cause: signal.reason }));
    if (signal.aborted) fail();
    signal.addEventListener('abort', fail, { once: true });
    stop = () => signal.removeEventListener('abort', fail);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    stop();
  }
}
