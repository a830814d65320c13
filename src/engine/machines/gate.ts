/** A use of a machine that began less than this ago gets the time to end, to be this old. */
const youngMs = 2_000;

/**
 * Who uses a running machine, and whether more may come. A machine that is about to end closes its gate first: who comes
 * then waits for the lock of the box, and finds what became of it.
 */
export class Gate {
  readonly #inside = new Map<symbol, number>();
  #isOpen = true;
  #wake: () => void = () => undefined;

  /** Whether a use may begin now. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** A use begins; the result ends it. To be called where {@link isOpen} was just seen. */
  enter(): () => void {
    const use = Symbol('use');
    this.#inside.set(use, performance.now());
    return () => {
      this.#inside.delete(use);
      this.#wake();
    };
  }

  /** Lets nobody in any more. */
  close(): void {
    this.#isOpen = false;
  }

  /** Lets uses in again: the machine goes on after all. */
  open(): void {
    this.#isOpen = true;
  }

  /**
   * Waits until each use inside has ended or is 2 s old: what has just begun comes to its end, or to where it goes on
   * by itself, and nobody waits for a command that runs for hours.
   */
  async settled(): Promise<void> {
    for (;;) {
      const now = performance.now();
      const ages = [...this.#inside.values()].map((since) => now - since);
      const leftMs = Math.max(0, ...ages.map((age) => youngMs - age));
      if (leftMs === 0) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}
