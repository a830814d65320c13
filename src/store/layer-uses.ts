import { sql } from 'kysely';
import type { Database } from './database.js';
import { valuesOf } from './values.js';

/** What of a layer tells what it takes, and whether something else needs it. */
export interface LayerUse {
  readonly id: string;
  readonly parentId: string | null;
  /** Bytes it takes on disk. */
  readonly sizeBytes: number;
  /** Snapshots, boxes and others that hold it; counted to two, which is as good as more. */
  readonly holders: number;
  /** Layers that stand on it; counted to two. */
  readonly children: number;
}

/** Those layers and all that they stand on, by id. */
export async function layerUses(db: Database, layerIds: Iterable<string>): Promise<Map<string, LayerUse>> {
  const rows = await db
    .withRecursive('chain', (q) =>
      q
        .selectFrom('layers')
        .select(['id', 'parent_id', 'size_bytes'])
        .where('id', 'in', valuesOf(layerIds))
        .union(
          q
            .selectFrom('layers')
            .innerJoin('chain', 'layers.id', 'chain.parent_id')
            .select(['layers.id', 'layers.parent_id', 'layers.size_bytes']),
        ),
    )
    .selectFrom('chain')
    .select(['id', 'parent_id as parentId', 'size_bytes as sizeBytes'])
    // A base disk has a child and a holder for each box: two of them are looked at.
    .select(
      sql<number>`(select count(*) from (select 1 from layer_holds where layer_id = chain.id limit 2))`.as(
        'holders',
      ),
    )
    .select(
      sql<number>`(select count(*) from (select 1 from layers where layers.parent_id = chain.id limit 2))`.as(
        'children',
      ),
    )
    .execute();
  return new Map(rows.map((row) => [row.id, row]));
}
