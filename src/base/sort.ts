import { Turns } from './turns.js';

/** Sorted at once: a few milliseconds. */
const runLength = 4096;

/**
 * Sorts a list that may be long, with turns for others in between. The list itself is left as it is.
 * `compare` as for `Array.prototype.sort`; equal items keep their order.
 */
export async function sortInTurns<T>(items: readonly T[], compare: (a: T, b: T) => number): Promise<T[]> {
  const turns = new Turns();
  let runs: T[][] = [];
  for (let at = 0; at < items.length; at += runLength) {
    runs.push(items.slice(at, at + runLength).sort(compare));
    await turns.chunk();
  }
  while (runs.length > 1) {
    const merged: T[][] = [];
    for (let i = 0; i < runs.length; i += 2) {
      merged.push(await mergeInTurns(runs[i] ?? [], runs[i + 1] ?? [], compare, turns));
    }
    runs = merged;
  }
  return runs[0] ?? [];
}

async function mergeInTurns<T>(
  left: readonly T[],
  right: readonly T[],
  compare: (a: T, b: T) => number,
  turns: Turns,
): Promise<T[]> {
  const all: T[] = [];
  let [i, j] = [0, 0];
  while (i < left.length || j < right.length) {
    // Indexes are within their lists: the other one is taken from where one has ended.
    const fromLeft = j === right.length || (i < left.length && compare(left[i] as T, right[j] as T) <= 0);
    all.push((fromLeft ? left[i++] : right[j++]) as T);
    await turns.step();
  }
  return all;
}
