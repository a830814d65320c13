import { setImmediate } from 'node:timers/promises';

/**
 * Items as they come, and undefined whenever none has come for `quietMs`. The first is undefined, at once: but a source that
 * fails in its first moment fails before it.
 */
export async function* withPauses<T extends object>(
  items: AsyncIterable<T>,
  quietMs: number,
): AsyncGenerator<T | undefined> {
  const iterator = items[Symbol.asyncIterator]();
  let pending = iterator.next();
  // It is waited for when the reader has taken the first pause; a failure until then is not an unhandled one.
  pending.catch(() => undefined);
  try {
    await Promise.race([pending, setImmediate()]);
    yield undefined;
    for (;;) {
      let timer: NodeJS.Timeout | undefined;
      const quiet = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), quietMs);
      });
      const next = await Promise.race([pending, quiet]).finally(() => clearTimeout(timer));
      if (next === undefined) {
        yield undefined;
        continue;
      }
      if (next.done) return;
      yield next.value;
      pending = iterator.next();
      pending.catch(() => undefined);
    }
  } finally {
    pending.catch(() => undefined);
    await iterator.return?.();
  }
}
