import { setTimeout as sleep } from 'node:timers/promises';
import { RegistryFailure } from './failure.js';

/** First pause; each next one may be twice as long. */
const firstPauseMs = 250;
const longestPauseMs = 8_000;
/** A registry that asks for more patience than this is taken as one that refuses. */
const longestRetryAfterMs = 60_000;

/** Options of {@link retry}. */
export interface RetryOptions {
  /** Attempts in a row that bring nothing. */
  readonly attempts: number;
  readonly signal?: AbortSignal;
  /** Whether the attempt that just failed brought something, which starts the count again. */
  readonly madeProgress?: () => boolean;
}

/**
 * Runs a task again while it fails in a way that may pass: after a random pause within a growing range, so that many
 * clients do not come back at once, or after the time the registry asks for. Throws the typed error of the last failure.
 */
export async function retry<T>(
  task: () => Promise<T>,
  { attempts, signal, madeProgress }: RetryOptions,
): Promise<T> {
  let failed = 0;
  for (;;) {
    try {
      return await task();
    } catch (error) {
      if (!(error instanceof RegistryFailure)) throw error;
      failed = madeProgress?.() ? 1 : failed + 1;
      const waitMs = pauseMs(failed, error.retryAfterMs);
      if (!error.isTransient || failed >= attempts || waitMs === undefined) throw error.error;
      await sleep(waitMs, undefined, { signal });
    }
  }
}

function pauseMs(failed: number, retryAfterMs: number | undefined): number | undefined {
  if (retryAfterMs !== undefined) return retryAfterMs <= longestRetryAfterMs ? retryAfterMs : undefined;
  return Math.random() * Math.min(longestPauseMs, firstPauseMs * 2 ** failed);
}
