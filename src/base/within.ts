import { setTimeout as delay } from 'node:timers/promises';

/**
 * Resolves when a promise has settled, however, or after `ms`; nothing is left running then. Rejects with its reason when the
 * signal is aborted first.
 */
export async function within(promise: Promise<unknown>, ms: number, signal?: AbortSignal): Promise<void> {
  const timer = new AbortController();
  const signals = signal ? [timer.signal, signal] : [timer.signal];
  const late = delay(ms, undefined, { signal: AbortSignal.any(signals) }).catch(() => undefined);
  await Promise.race([promise.catch(() => undefined), late]);
  timer.abort();
  signal?.throwIfAborted();
}
