// Progress of the set-up: one line per step, with what it did and how long it took.
import { killAll, SetupError } from './run.mjs';

const times = [];

/** Seconds or milliseconds, short. */
export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** Runs a step; `task` returns a note about what it did, such as `up to date`. */
export async function step(name, task) {
  const started = performance.now();
  process.stdout.write(`==>  ${name}\n`);
  const note = await task();
  const ms = performance.now() - started;
  times.push({ name, ms, note });
  process.stdout.write(`ok   ${name}: ${note} (${duration(ms)})\n`);
}

/** The steps so far, as rows `[name, time, note]`. */
export function stepRows() {
  return times.map(({ name, ms, note }) => [name, duration(ms), note]);
}

/** Prints rows in aligned columns. */
export function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column]));
    process.stdout.write(`  ${cells.join('  ').trimEnd()}\n`);
  }
}

/** Runs a script's main function: a failure is printed with its hint and ends with exit code 1, a signal ends all children. */
export async function main(body) {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ]) {
    process.on(signal, () => {
      killAll();
      process.exit(code);
    });
  }
  try {
    await body();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    process.stderr.write(`FAIL ${error.message}\n`);
    if (error.hint) process.stderr.write(`     ${error.hint}\n`);
    process.exitCode = 1;
  }
}
