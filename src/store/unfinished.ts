import type { Database } from './database.js';
import { rangeOf, valuesOf } from './values.js';

/**
 * What has something to be done to it after a commit: a `layer` whose file is to be sealed or to name another parent, a
 * `memory` that still holds what a merge replaced.
 */
export type UnfinishedKind = 'layer' | 'memory';

/**
 * Records, in the commit that asks for it, that something is still to be done to one of that kind. An engine that ends
 * before it is done finds it here when it starts, instead of looking at everything there is.
 */
export async function noteUnfinished(tx: Database, kind: UnfinishedKind, id: string): Promise<void> {
  await tx
    .insertInto('unfinished')
    .values({ what: `${kind}:${id}` })
    .onConflict((c) => c.doNothing())
    .execute();
}

/** Records that it is done, or that there is nothing any more to do it to. */
export async function noteFinished(
  db: Database,
  kind: UnfinishedKind,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  const all = ids.map((id) => `${kind}:${id}`);
  await db.deleteFrom('unfinished').where('what', 'in', valuesOf(all)).execute();
}

/** Ids of those of a kind to which something may still have to be done. */
export async function unfinished(db: Database, kind: UnfinishedKind): Promise<string[]> {
  const { from, to } = rangeOf(`${kind}:`);
  const rows = await db
    .selectFrom('unfinished')
    .select('what')
    .where('what', '>=', from)
    .where('what', '<', to)
    .execute();
  return rows.map(({ what }) => what.slice(from.length));
}
