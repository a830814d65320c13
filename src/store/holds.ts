import { sql } from 'kysely';
import type { Database } from './database.js';
import { rangeOf, valuesOf } from './values.js';

/** Kinds of what holds layers. */
export type HolderKind =
  | 'export'
  | 'flatten'
  | 'resume'
  | 'machine'
  | 'memory'
  | 'box'
  | 'image'
  | 'golden'
  | 'snapshot'
  | 'template'
  | 'volume'
  | 'replica';

/** Who holds layers: a kind, and the id of one of that kind. */
export type Holder = `${HolderKind}:${string}`;

/** Records that `holder` needs these layers. */
export async function hold(db: Database, holder: Holder, layerIds: readonly string[]): Promise<void> {
  if (layerIds.length === 0) return;
  await db
    .insertInto('layer_holds')
    .columns(['layer_id', 'holder'])
    .expression(sql`select value, ${holder} from json_each(${JSON.stringify(layerIds)}) where true`)
    .onConflict((c) => c.doNothing())
    .execute();
}

/** Records that `holder` no longer needs any layer. */
export async function release(db: Database, holder: Holder): Promise<void> {
  await db.deleteFrom('layer_holds').where('holder', '=', holder).execute();
}

/** Records that `holder` no longer needs one of its layers. */
export async function releaseLayer(db: Database, holder: Holder, layerId: string): Promise<void> {
  await db.deleteFrom('layer_holds').where('holder', '=', holder).where('layer_id', '=', layerId).execute();
}

/** Records that no holder of a kind needs any layer any more. */
export async function releaseKind(db: Database, kind: HolderKind): Promise<void> {
  const { from, to } = rangeOf(`${kind}:`);
  await db.deleteFrom('layer_holds').where('holder', '>=', from).where('holder', '<', to).execute();
}

/** Replaces everything `holder` holds. */
export async function holdOnly(db: Database, holder: Holder, layerIds: readonly string[]): Promise<void> {
  await release(db, holder);
  await hold(db, holder, layerIds);
}

/** Who holds which layer, all of it. */
export async function allHolds(db: Database): Promise<{ holder: string; layer_id: string }[]> {
  return await db.selectFrom('layer_holds').selectAll().execute();
}

/** Ids of the holders of a kind that hold at least one of the layers. */
export async function holdersOf(
  db: Database,
  kind: HolderKind,
  layerIds: readonly string[],
): Promise<string[]> {
  const { from, to } = rangeOf(`${kind}:`);
  const holders = await db
    .selectFrom('layer_holds')
    .select('holder')
    .distinct()
    .where('layer_id', 'in', valuesOf(layerIds))
    .where('holder', '>=', from)
    .where('holder', '<', to)
    .execute();
  return holders.map(({ holder }) => holder.slice(from.length));
}
