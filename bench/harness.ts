/** One case of the bench: something of ours and what it is compared with, run alternately. */
export interface BenchCase {
  /** As the issue and docs/SPECIFICATION.md call it. */
  readonly name: string;
  readonly unit: string;
  readonly rounds: number;
  /** What the ratio must not exceed; absent: the value itself is promised, or nothing. */
  readonly maxRatio?: number;
  /** What the value must not exceed. */
  readonly maxValue?: number;
  /** Makes what the rounds need, and gives the two things to measure; each returns one figure. */
  setup(): Promise<BenchRun>;
}

/** A case that is set up. */
export interface BenchRun {
  measure(): Promise<number>;
  /** Absent: the figure stands alone. */
  baseline?(): Promise<number>;
  teardown(): Promise<void>;
}

/** A case and the name of what it is compared with. */
export interface NamedCase {
  readonly bench: BenchCase;
  readonly baseline: string;
}

/** What a case came to. */
export interface BenchResult {
  readonly name: string;
  readonly unit: string;
  readonly value_p50: number;
  readonly baseline: string;
  readonly baseline_p50: number | null;
  readonly ratio: number | null;
  readonly n: number;
  readonly promise: string;
  readonly met: boolean | null;
}

/** Runs a case: value and baseline take turns, so that whatever else the machine does hits both. */
export async function runCase({ bench, baseline }: NamedCase): Promise<BenchResult> {
  const run = await bench.setup();
  try {
    const values: number[] = [];
    const baselines: number[] = [];
    for (let round = 0; round < bench.rounds; round += 1) {
      values.push(await run.measure());
      if (run.baseline) baselines.push(await run.baseline());
    }
    return summarise(bench, baseline, values, baselines);
  } finally {
    await run.teardown();
  }
}

function summarise(
  bench: BenchCase,
  baseline: string,
  values: readonly number[],
  baselines: readonly number[],
): BenchResult {
  const value = median(values);
  const base = baselines.length > 0 ? median(baselines) : null;
  const ratio = base === null ? null : value / base;
  const withinRatio = bench.maxRatio === undefined || (ratio !== null && ratio <= bench.maxRatio);
  const withinValue = bench.maxValue === undefined || value <= bench.maxValue;
  const promised = bench.maxRatio !== undefined || bench.maxValue !== undefined;
  return {
    name: bench.name,
    unit: bench.unit,
    value_p50: rounded(value),
    baseline,
    baseline_p50: base === null ? null : rounded(base),
    ratio: ratio === null ? null : rounded(ratio),
    n: values.length,
    promise: promiseOf(bench),
    met: promised ? withinRatio && withinValue : null,
  };
}

function promiseOf({ maxRatio, maxValue, unit }: BenchCase): string {
  const parts = [];
  if (maxRatio !== undefined) parts.push(`<= ${maxRatio}x`);
  if (maxValue !== undefined) parts.push(`<= ${maxValue} ${unit}`);
  return parts.join(', ');
}

/** The middle of a list. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
