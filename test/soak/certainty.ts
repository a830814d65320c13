/** What is certain at one moment. */
export interface CertainView {
  readonly epoch: number;
  readonly values: readonly string[];
}

/**
 * What must be there, while several clients add to it and take it back at the same time: only what was confirmed, and
 * what no undoing can have touched since.
 */
export class Certainty {
  #values = new Set<string>();
  #epoch = 0;
  #undoing = 0;

  /** To be called before something is added; what it returns is for {@link add}. */
  begin(): number {
    return this.#undoing === 0 ? this.#epoch : -1;
  }

  /** Says that something was added for certain. */
  add(value: string, begun: number): void {
    if (this.#isSame(begun)) this.#values.add(value);
  }

  /** What is certain now. */
  view(): CertainView {
    return { epoch: this.begin(), values: [...this.#values] };
  }

  /** Whether nothing was undone since a view. */
  holds(view: CertainView): boolean {
    return this.#isSame(view.epoch);
  }

  /** Runs what may undo everything; afterwards that is certain which it says to have brought back. */
  async undoing<T>(task: () => Promise<T>, broughtBack: (result: T) => readonly string[]): Promise<T> {
    this.#epoch += 1;
    this.#undoing += 1;
    const mine = this.#epoch;
    this.#values = new Set();
    let values: readonly string[] = [];
    try {
      const result = await task();
      values = broughtBack(result);
      return result;
    } finally {
      this.#undoing -= 1;
      if (this.#undoing === 0 && this.#epoch === mine) this.#values = new Set(values);
      // What began meanwhile is not certain.
      this.#epoch += 1;
    }
  }

  /** What of a view is missing in what was seen after it; nothing when something was undone meanwhile. */
  missing(view: CertainView, seen: ReadonlySet<string>): string[] {
    return this.holds(view) ? view.values.filter((value) => !seen.has(value)) : [];
  }

  #isSame(begun: number): boolean {
    return begun >= 0 && this.#undoing === 0 && begun === this.#epoch;
  }
}
