import type { Database } from './database.js';

/** Whose limits: the home's as a whole, those of each tenant with a name, or those of one tenant. */
export type LimitScope = 'home' | 'tenants' | `tenant:${string}`;

/** Limits by name; what is not in it is not limited, or has its default. */
export type StoredLimits = ReadonlyMap<string, number>;

/** The limits of the home, and those of a tenant whose scopes are `own`: a later one goes before an earlier one. */
export async function limitsFor(
  db: Database,
  own: readonly LimitScope[],
): Promise<{ readonly home: StoredLimits; readonly own: StoredLimits }> {
  const scopes: LimitScope[] = ['home', ...own];
  const rows = await db.selectFrom('limits').selectAll().where('scope', 'in', scopes).execute();
  const of = (scope: LimitScope) =>
    rows.filter((row) => row.scope === scope).map(({ name, value }) => [name, value] as const);
  return { home: new Map(of('home')), own: new Map(own.flatMap(of)) };
}

/** All limits that were set. */
export async function allLimits(
  db: Database,
): Promise<{ readonly scope: LimitScope; readonly name: string; readonly value: number }[]> {
  const rows = await db.selectFrom('limits').selectAll().orderBy('scope').orderBy('name').execute();
  return rows.map((row) => ({ ...row, scope: row.scope as LimitScope }));
}

/** Sets limits of a scope; null takes one back. */
export async function setLimits(
  db: Database,
  scope: LimitScope,
  limits: Iterable<readonly [name: string, value: number | null]>,
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    for (const [name, value] of limits) {
      await tx.deleteFrom('limits').where('scope', '=', scope).where('name', '=', name).execute();
      if (value !== null) await tx.insertInto('limits').values({ scope, name, value }).execute();
    }
  });
}
