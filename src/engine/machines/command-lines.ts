/** As many ended executions as an agent remembers (docs/PROTOCOL.md, section 1). */
const maxEnded = 256;
/** More than an agent runs and remembers together; executions whose end nobody saw are forgotten beyond it. */
const maxAll = 2048;

/** Command lines of the executions this engine started in one box, by id; the agent keeps the first word only. */
export class CommandLines {
  readonly #byId = new Map<string, readonly string[]>();
  readonly #ended = new Set<string>();

  /** Remembers a command line until the agent has forgotten the execution. */
  started(id: string, argv: readonly string[], exit: Promise<unknown>): void {
    this.#byId.set(id, argv);
    forgetOldest(this.#byId, maxAll);
    exit.then(
      () => this.#end(id),
      // Detached, or the machine is gone: it may run on.
      () => undefined,
    );
  }

  /** Remembers one that another engine started, or that goes on from a memory. */
  knows(id: string, argv: readonly string[]): void {
    this.#byId.set(id, argv);
  }

  get(id: string): readonly string[] | undefined {
    return this.#byId.get(id);
  }

  #end(id: string): void {
    this.#ended.add(id);
    for (const oldest of forgetOldest(this.#ended, maxEnded)) this.#byId.delete(oldest);
  }
}

/** Takes out what came first until so many are left; returns the keys. */
function forgetOldest(
  all: { readonly size: number; keys(): Iterator<string>; delete(key: string): boolean },
  keep: number,
): string[] {
  const gone: string[] = [];
  while (all.size > keep) {
    const { value } = all.keys().next();
    all.delete(value);
    gone.push(value);
  }
  return gone;
}
