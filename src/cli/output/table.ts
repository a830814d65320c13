import { printable } from './printable.js';

/** One column of a listing. */
export interface Column<Row> {
  readonly header: string;
  readonly cell: (row: Row) => string | number | null | undefined;
  readonly align?: 'left' | 'right';
}

const GAP = '   ';

/** Rows as aligned text, with a line of headers; missing cells are `-`. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const body = rows.map((row) => columns.map(({ cell }) => cellText(cell(row))));
  const cells = [columns.map(({ header }) => header), ...body];
  const widths = columns.map((_, at) => Math.max(...cells.map((line) => line[at]?.length ?? 0)));
  const lines = cells.map((line) =>
    line
      .map((cell, at) => {
        const width = widths[at] ?? 0;
        return columns[at]?.align === 'right' ? cell.padStart(width) : cell.padEnd(width);
      })
      .join(GAP)
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** Facts about one thing, a line each: name and value. */
export function renderFacts(facts: Readonly<Record<string, string | number | null | undefined>>): string {
  const width = Math.max(...Object.keys(facts).map((name) => name.length + 1));
  const lines = Object.entries(facts).map(([name, fact]) => `${`${name}:`.padEnd(width)}  ${cellText(fact)}`);
  return `${lines.join('\n')}\n`;
}

function cellText(cell: string | number | null | undefined): string {
  return cell === null || cell === undefined || cell === '' ? '-' : printable(String(cell));
}
