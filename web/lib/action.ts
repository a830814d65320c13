import { useCallback, useEffect, useRef, useState } from 'preact/hooks';

/** Something that a page does, and how it stands. */
export interface Action {
  readonly busy: boolean;
  readonly error: unknown;
  /** Does it; whether it went well. A second call while the first is under way does nothing. */
  run(task: (signal: AbortSignal) => Promise<unknown>): Promise<boolean>;
  /** Cancels what is under way. */
  cancel(): void;
  /** Takes the error away. */
  clear(): void;
}

/** An action of a component. It is cancelled when the component goes away. */
export function useAction(): Action {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(undefined);
  const under = useRef<AbortController | undefined>(undefined);
  useEffect(() => () => under.current?.abort(), []);
  const run = useCallback(async (task: (signal: AbortSignal) => Promise<unknown>) => {
    if (under.current) return false;
    const controller = new AbortController();
    under.current = controller;
    setBusy(true);
    setError(undefined);
    try {
      await task(controller.signal);
      return true;
    } catch (thrown) {
      if (!controller.signal.aborted) setError(thrown);
      return false;
    } finally {
      under.current = undefined;
      setBusy(false);
    }
  }, []);
  return { busy, error, run, cancel: () => under.current?.abort(), clear: () => setError(undefined) };
}

/** Something read from the server. */
export interface Loaded<T> {
  readonly value: T | undefined;
  readonly error: unknown;
  /** Reads it again. */
  again(): void;
}

/** Reads something now, whenever `deps` change and when asked to; what was read stays until the next has come. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, deps: readonly unknown[]): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: unknown }>({});
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    load(controller.signal).then(
      (value) => {
        if (!controller.signal.aborted) setState({ value });
      },
      (error: unknown) => {
        if (!controller.signal.aborted) setState((before) => ({ ...before, error }));
      },
    );
    return () => controller.abort();
  }, [...deps, turn]);
  return { value: state.value, error: state.error, again: useCallback(() => setTurn((it) => it + 1), []) };
}
