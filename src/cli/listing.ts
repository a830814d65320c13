import type { Context } from './context.js';
import { printable } from './output/printable.js';
import { type Column, renderFacts, renderTable } from './output/table.js';
import type { Format, TemplateFormat } from './specs.js';

/** Prints data as JSON, on stdout. */
export async function printJson(context: Context, data: unknown): Promise<void> {
  await context.stdout.line(JSON.stringify(data, undefined, 2));
}

/** Prints a listing in the format asked for; a template sees each row, or what `view` makes of it. */
export async function printListing<Row>(
  context: Context,
  format: Format,
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  view: (row: Row) => unknown = (row) => row,
): Promise<void> {
  if (format === 'json') await printJson(context, rows);
  else if (format === 'table') await context.stdout.write(renderTable(columns, rows));
  else await printTemplate(context, format, rows.map(view));
}

/** Prints one thing in the format asked for: all of it as JSON, its main facts, or what a template makes of it. */
export async function printOne<T>(
  context: Context,
  format: Format,
  thing: T,
  facts: (thing: T) => Readonly<Record<string, string | number | null | undefined>>,
  view: (thing: T) => unknown = (it) => it,
): Promise<void> {
  if (format === 'json') await printJson(context, thing);
  else if (format === 'table') await context.stdout.write(renderFacts(facts(thing)));
  else await printTemplate(context, format, [view(thing)]);
}

/** A line for each thing. What names and labels hold cannot drive the terminal. */
async function printTemplate(
  context: Context,
  { render, headers }: TemplateFormat,
  things: readonly unknown[],
): Promise<void> {
  const lines = things.map((thing) => printable(render(thing), { lines: true }));
  if (headers === undefined) {
    for (const line of lines) await context.stdout.line(line);
    return;
  }
  const columns = headers.map((header, at) => ({ header, cell: (cells: readonly string[]) => cells[at] }));
  await context.stdout.write(
    renderTable(
      columns,
      lines.map((line) => line.split('\t')),
    ),
  );
}
