/** So many are kept without a look at which of them are gone: a look costs a question for each. */
const firstLook = 64;

/**
 * Ids of boxes that end with the runtime that made them. A program may make boxes for months: those that others removed
 * are looked for each time that there are twice as many as the last look left.
 */
export class AttachedBoxes {
  readonly #ids = new Set<string>();
  readonly #exists: (id: string) => Promise<boolean>;
  #lookAt = firstLook;

  /** `exists`: whether there still is a box with an id; one that this fails for is kept. */
  constructor(exists: (id: string) => Promise<boolean>) {
    this.#exists = exists;
  }

  /** How many are kept. */
  get size(): number {
    return this.#ids.size;
  }

  /** Adds a box; may look which of the others are gone. Never fails. */
  async add(id: string): Promise<void> {
    this.#ids.add(id);
    if (this.#ids.size <= this.#lookAt) return;
    // Others that are added meanwhile do not look, too.
    this.#lookAt = Number.POSITIVE_INFINITY;
    await Promise.all([...this.#ids].map((each) => this.#look(each)));
    this.#lookAt = Math.max(firstLook, 2 * this.#ids.size);
  }

  /** Forgets a box that was removed. */
  delete(id: string): void {
    this.#ids.delete(id);
  }

  /** Gives the ids away: none is kept afterwards. */
  take(): string[] {
    const ids = [...this.#ids];
    this.#ids.clear();
    return ids;
  }

  async #look(id: string): Promise<void> {
    if (!(await this.#exists(id).catch(() => true))) this.#ids.delete(id);
  }
}
