import { sql } from 'kysely';
import type { Database } from './database.js';
import type { LayerRow } from './schema.js';

/** Who holds layers. */
export type Holder =
  `${'export' | 'flatten' | 'machine' | 'memory' | 'box' | 'image' | 'golden' | 'snapshot' | 'template' | 'volume'}:${string}`;

/** Longest way from a head to its base that is followed; chains are kept far shorter. */
const maxDepth = 64;

/** Records that `holder` needs these layers. */
export async function hold(db: Database, holder: Holder, layerIds: readonly string[]): Promise<void> {
  if (layerIds.length === 0) return;
  await db
    .insertInto('layer_holds')
    .values(layerIds.map((layer_id) => ({ layer_id, holder })))
    .onConflict((c) => c.doNothing())
    .execute();
}

/** Records that `holder` no longer needs any layer. */
export async function release(db: Database, holder: Holder): Promise<void> {
  await db.deleteFrom('layer_holds').where('holder', '=', holder).execute();
}

/** Replaces everything `holder` holds. */
export async function holdOnly(db: Database, holder: Holder, layerIds: readonly string[]): Promise<void> {
  await release(db, holder);
  await hold(db, holder, layerIds);
}

/** A layer and all it needs, the base first. */
export async function chainOf(db: Database, layerId: string): Promise<LayerRow[]> {
  const chain = await db
    .withRecursive('chain', (q) =>
      q
        .selectFrom('layers')
        .selectAll()
        .select(sql<number>`0`.as('depth'))
        .where('id', '=', layerId)
        .unionAll(
          q
            .selectFrom('layers')
            .innerJoin('chain', 'layers.id', 'chain.parent_id')
            .selectAll('layers')
            .select(sql<number>`chain.depth + 1`.as('depth'))
            .where('chain.depth', '<', maxDepth),
        ),
    )
    .selectFrom('chain')
    .selectAll()
    .orderBy('depth', 'desc')
    .execute();
  return chain;
}

/** Layers that nothing holds and no held layer needs. */
export async function garbageLayers(db: Database): Promise<LayerRow[]> {
  return await db
    .withRecursive('needed', (q) =>
      q
        .selectFrom('layer_holds')
        .innerJoin('layers', 'layers.id', 'layer_holds.layer_id')
        .select(['layers.id', 'layers.parent_id'])
        .union(
          q
            .selectFrom('layers')
            .innerJoin('needed', 'layers.id', 'needed.parent_id')
            .select(['layers.id', 'layers.parent_id']),
        ),
    )
    .selectFrom('layers')
    .selectAll()
    .where('id', 'not in', (q) => q.selectFrom('needed').select('needed.id'))
    .execute();
}
