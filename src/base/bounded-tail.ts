/** Keeps the last characters of a text. */
export class BoundedTail {
  readonly #limit: number;
  #text = '';

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The last characters, at most as many as the limit. */
  get text(): string {
    return this.#text.slice(-this.#limit);
  }

  /** Adds a piece. */
  add(piece: string): void {
    this.#text += piece;
    // Cut now and then only, so that many short pieces are not copied each time.
    if (this.#text.length > 2 * this.#limit) this.#text = this.text;
  }
}
