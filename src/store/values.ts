import { type RawBuilder, sql } from 'kysely';

/**
 * Many values as one parameter of a statement, to be used after `in` and `not in`. SQLite takes 32,766 parameters at most,
 * and a list with one parameter each would be another statement for each length.
 */
export function valuesOf(values: Iterable<string>): RawBuilder<string> {
  return sql<string>`(select value from json_each(${JSON.stringify([...values])}))`;
}

/** The ends of the range of texts that begin with `prefix`, which must end with a character of ASCII; the upper one is outside. */
export function rangeOf(prefix: string): { readonly from: string; readonly to: string } {
  const last = prefix.charCodeAt(prefix.length - 1);
  return { from: prefix, to: `${prefix.slice(0, -1)}${String.fromCharCode(last + 1)}` };
}

/**
 * A column that no index is used for. SQLite knows nothing of how many rows have which value, and would rather read all
 * boxes of a tenant than the few whose ids are asked for (sqlite.org/optoverview.html, "Disqualifying Terms").
 */
export function unindexed(column: 'tenant'): RawBuilder<string> {
  return sql<string>`+${sql.ref(column)}`;
}
