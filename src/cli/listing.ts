import type { Context } from './context.js';
import { type Column, renderFacts, renderTable } from './output/table.js';
import type { Format } from './specs.js';

/** Prints data as JSON, on stdout. */
export async function printJson(context: Context, data: unknown): Promise<void> {
  await context.stdout.line(JSON.stringify(data, undefined, 2));
}

/** Prints a listing in the format asked for. */
export async function printListing<Row>(
  context: Context,
  format: Format,
  rows: readonly Row[],
  columns: readonly Column<Row>[],
): Promise<void> {
  if (format === 'json') await printJson(context, rows);
  else await context.stdout.write(renderTable(columns, rows));
}

/** Prints one thing in the format asked for: all of it as JSON, or its main facts. */
export async function printOne<T>(
  context: Context,
  format: Format,
  thing: T,
  facts: (thing: T) => Readonly<Record<string, string | number | null | undefined>>,
): Promise<void> {
  if (format === 'json') await printJson(context, thing);
  else await context.stdout.write(renderFacts(facts(thing)));
}
