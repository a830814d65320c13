/** Values that pages watch. */
import { useEffect, useState } from 'preact/hooks';

/** A value with listeners. */
export interface Value<T> {
  get(): T;
  set(next: T): void;
  listen(listener: () => void): () => void;
}

/** A value that pages watch with {@link useValue}. */
export function createValue<T>(first: T): Value<T> {
  let current = first;
  const listeners = new Set<() => void>();
  return {
    get: () => current,
    set: (next) => {
      if (Object.is(next, current)) return;
      current = next;
      for (const listener of listeners) listener();
    },
    listen: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The value now; the component is drawn again when it changes. */
export function useValue<T>(value: Value<T>): T {
  const [, redraw] = useState(0);
  useEffect(() => value.listen(() => redraw((count) => count + 1)), [value]);
  return value.get();
}
