import { setTimeout as delay } from 'node:timers/promises';
import { CryoboxError, errnoOf, isCryoboxError } from '../../errors.js';
import { databaseFailure } from '../../store/index.js';
import { isByteSource } from './operation.js';

/**
 * `change`: what a stop in the middle could leave half done; it comes to its end, or is rolled back. `use`: all else, which
 * ends with the connection to its machine.
 */
export type WorkKind = 'change' | 'use';

/**
 * What is under way in an engine. Once it closes nothing begins any more, and what has begun is waited for: only then is
 * its home somebody else's.
 */
export class Work {
  readonly #underWay: Readonly<Record<WorkKind, Set<Promise<unknown>>>> = {
    change: new Set(),
    use: new Set(),
  };
  readonly #changes = new Set<AbortController>();
  readonly #streams = new Set<() => Promise<unknown>>();
  #isClosing = false;

  /**
   * Runs a task. Its signal is raised with the caller's and, for a change, when the engine closes: it rolls back what it
   * can then. Throws `engine_unavailable` when the engine closes before the task begins, or ends it; what the host or the
   * database refused as an error of ours; anything else as the task throws it.
   */
  async run<T>(kind: WorkKind, task: (signal: AbortSignal) => Promise<T>, callers?: AbortSignal): Promise<T> {
    if (this.#isClosing) throw closed();
    const controller = new AbortController();
    const pass = (): void => controller.abort(callers?.reason);
    if (callers?.aborted) pass();
    callers?.addEventListener('abort', pass, { once: true });
    if (kind === 'change') this.#changes.add(controller);
    const running = task(controller.signal);
    this.#underWay[kind].add(running);
    let isStream = false;
    try {
      const result = await running;
      // Who reads it gives it up by the same signal.
      isStream = isByteSource(result);
      return result;
    } catch (error) {
      throw this.told(error, callers);
    } finally {
      if (!isStream) callers?.removeEventListener('abort', pass);
      this.#changes.delete(controller);
      this.#underWay[kind].delete(running);
    }
  }

  /** What the caller of a task gets for a failure in it. */
  told(error: unknown, callers?: AbortSignal): unknown {
    return this.#isClosing && !callers?.aborted ? endedByClosing(error) : asTyped(error);
  }

  /** Bytes that somebody reads: when the engine closes before they have ended, their reader gets `engine_unavailable`. */
  stream(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    return {
      [Symbol.asyncIterator]: () => {
        const inner = source[Symbol.asyncIterator]();
        const end = async (): Promise<void> => {
          this.#streams.delete(end);
          await inner.return?.();
        };
        this.#streams.add(end);
        return {
          next: async () => {
            if (this.#isClosing) throw closed();
            try {
              const step = await inner.next();
              if (step.done) this.#streams.delete(end);
              return step;
            } catch (error) {
              this.#streams.delete(end);
              throw this.#isClosing ? endedByClosing(error) : asTyped(error);
            }
          },
          return: async () => {
            await end();
            return { done: true, value: undefined };
          },
        };
      },
    };
  }

  /** Lets nothing begin any more, and tells changes to roll back what they can. */
  close(): void {
    this.#isClosing = true;
    for (const controller of this.#changes) controller.abort(closed());
  }

  /** Ends the streams that are being read: what they hold is given back. */
  async endStreams(): Promise<void> {
    await Promise.allSettled([...this.#streams].map((end) => end()));
  }

  /** Waits until nothing of a kind is under way; at most so long. Returns whether that is so. */
  async settled(kind: WorkKind, limitMs: number): Promise<boolean> {
    const stop = new AbortController();
    const late = delay(limitMs, 'late', { signal: stop.signal }).catch(() => 'late');
    try {
      while (this.#underWay[kind].size > 0) {
        const all = Promise.allSettled(this.#underWay[kind]);
        if ((await Promise.race([all, late])) === 'late') return false;
      }
      return true;
    } finally {
      stop.abort();
    }
  }
}

/**
 * What SQLite refused, wherever that was, as an error of ours. Any other error as it is: one of the host may be that of
 * bytes which a caller gave, and the surface tells those apart.
 */
function asTyped(error: unknown): unknown {
  if (isCryoboxError(error) || !errnoOf(error)?.startsWith('SQLITE_')) return error;
  return databaseFailure(error, 'the database refused it');
}

/** An engine that closes ends what uses its machines and its database: that is what there is to tell. */
function endedByClosing(error: unknown): unknown {
  return isCryoboxError(error) && error.code !== 'cancelled' ? error : closed(error);
}

function closed(cause?: unknown): CryoboxError {
  return new CryoboxError('engine_unavailable', 'the engine was closed', {
    cause,
    hint: 'Open the engine of this home again, or connect to the one that has it now.',
  });
}
