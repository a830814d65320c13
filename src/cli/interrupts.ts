import { setMaxListeners } from 'node:events';
import { constants } from 'node:os';

type InterruptName = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

const names: readonly InterruptName[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** What sends the signals: the process. */
export interface SignalSource {
  on(name: InterruptName, listener: (name: InterruptName) => void): unknown;
  off(name: InterruptName, listener: (name: InterruptName) => void): unknown;
}

/**
 * Ctrl-C and its relatives. The first one cancels what runs, through {@link Interrupts.signal}, so that it can clean up;
 * one more ends the process at once. While a command in a box is attached, the first goes to that command instead.
 */
export class Interrupts implements Disposable {
  readonly #source: SignalSource;
  readonly #exit: (code: number) => void;
  readonly #controller = new AbortController();
  #forward: ((name: InterruptName) => void) | undefined;
  #exitCode: number | undefined;
  #isPatient = false;

  constructor(source: SignalSource, exit: (code: number) => void) {
    this.#source = source;
    this.#exit = exit;
    // One signal goes into every call, and a command may make hundreds at once.
    setMaxListeners(0, this.#controller.signal);
    for (const name of names) source.on(name, this.#receive);
  }

  /** Aborted when the user wants to stop. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** 128 plus the signal's number once one has cancelled, such as 130 for Ctrl-C. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  /** From now on no signal ends the process at once: for a clean-up that is short, and that signals come to in pairs. */
  bePatient(): void {
    this.#isPatient = true;
  }

  /** Resolves when the user wants to stop. */
  wait(): Promise<void> {
    const { signal } = this;
    return new Promise((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  /** While `task` runs, the first signal goes to `handler`; a second one cancels. Losing the terminal cancels at once. */
  async forward<T>(handler: (name: InterruptName) => void, task: () => Promise<T>): Promise<T> {
    this.#forward = handler;
    try {
      return await task();
    } finally {
      this.#forward = undefined;
    }
  }

  [Symbol.dispose](): void {
    for (const name of names) this.#source.off(name, this.#receive);
  }

  readonly #receive = (name: InterruptName): void => {
    const handler = this.#forward;
    this.#forward = undefined;
    if (handler && name !== 'SIGHUP') {
      handler(name);
      return;
    }
    const code = 128 + constants.signals[name];
    if (this.signal.aborted) {
      if (!this.#isPatient) this.#exit(code);
      return;
    }
    this.#exitCode = code;
    this.#controller.abort();
  };
}
