import { setTimeout as delay } from 'node:timers/promises';

/** What a load came to. */
export interface LoadReport {
  readonly calls: number;
  readonly failures: readonly string[];
  /** Calls that were answered in each second. */
  readonly perSecond: number;
  /** Milliseconds that 99 of 100 calls took at most. */
  readonly p99: number;
}

/** Calls under way at once; who needs more has fallen behind for good. */
const maxUnderWay = 500;

/** The value that 99 of 100 do not exceed. */
export function p99(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.99) - 1] ?? Number.NaN;
}

/** Makes calls at a fixed rate, whether or not earlier ones were answered, and waits for all of them. */
export async function load(
  { perSecond, seconds }: { readonly perSecond: number; readonly seconds: number },
  call: () => Promise<unknown>,
): Promise<LoadReport> {
  const failures: string[] = [];
  const times: number[] = [];
  const underWay = new Set<Promise<void>>();
  const started = performance.now();
  const total = perSecond * seconds;
  for (let turn = 0; turn < total; turn += 1) {
    const waitMs = started + (turn * 1000) / perSecond - performance.now();
    if (waitMs > 0) await delay(waitMs);
    if (underWay.size >= maxUnderWay) await Promise.race(underWay);
    const begun = performance.now();
    const one = call()
      .then(
        () => {
          times.push(performance.now() - begun);
        },
        (error: unknown) => {
          failures.push(String(error));
        },
      )
      .finally(() => underWay.delete(one));
    underWay.add(one);
  }
  await Promise.all(underWay);
  const tookSeconds = (performance.now() - started) / 1000;
  return { calls: total, failures, perSecond: times.length / tookSeconds, p99: p99(times) };
}
