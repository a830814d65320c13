/** What is open to something by its name, and is to be cut off at a word. */
export class Cuts {
  readonly #open = new Map<string, Set<AbortController>>();

  /** Something that is open from now on: its signal is raised when it is to be cut off. To be disposed of at its end. */
  add(key: string): { readonly signal: AbortSignal } & Disposable {
    const cut = new AbortController();
    const all = this.#open.get(key) ?? new Set();
    this.#open.set(key, all.add(cut));
    const end = (): void => {
      all.delete(cut);
      if (all.size === 0) this.#open.delete(key);
    };
    return { signal: cut.signal, [Symbol.dispose]: end };
  }

  /** Cuts off all that is open. */
  cut(key: string): void {
    for (const cut of this.#open.get(key) ?? []) cut.abort();
  }
}
