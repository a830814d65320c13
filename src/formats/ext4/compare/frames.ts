/** Directories that are being gone through side by side. */
import type { Entries } from '../read/entries.js';

/** A name in one directory or both, and the inodes that it has. */
export interface Pair {
  readonly name: string;
  readonly from: number | undefined;
  readonly to: number | undefined;
}

/** The names of a directory in byte order, with their inodes. */
export type SortedEntries = readonly (readonly [name: string, inode: number])[];

/** Entries by name, in byte order. */
export function sorted({ names, inodes }: Entries): SortedEntries {
  return names
    .map((name, i) => [name, inodes[i] ?? 0] as const)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

/** A directory of the two trees: its names come in byte order, each once. */
export class Frame {
  /** Path of it as a binary string, with a slash at the end; empty for the root. */
  readonly prefix: string;
  /** Names still to be passed over, one for each level; empty: none. */
  readonly behind: readonly string[];
  readonly #from: SortedEntries;
  readonly #to: SortedEntries;
  #i = 0;
  #j = 0;

  constructor(prefix: string, behind: readonly string[], from: SortedEntries, to: SortedEntries) {
    this.prefix = prefix;
    this.behind = behind;
    this.#from = from;
    this.#to = to;
  }

  /** Names that it holds in memory. */
  get held(): number {
    return this.#from.length + (this.#to === this.#from ? 0 : this.#to.length);
  }

  /** The next name, or undefined at the end. */
  next(): Pair | undefined {
    const here = this.#from[this.#i];
    const there = this.#to[this.#j];
    if (!here && !there) return undefined;
    const isHere = here !== undefined && (there === undefined || here[0] <= there[0]);
    const isThere = there !== undefined && (here === undefined || there[0] <= here[0]);
    if (isHere) this.#i += 1;
    if (isThere) this.#j += 1;
    return {
      name: (isHere ? here : there)?.[0] ?? '',
      from: isHere ? here?.[1] : undefined,
      to: isThere ? there?.[1] : undefined,
    };
  }
}
