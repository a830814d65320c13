import { sql } from 'kysely';
import type { Database } from './database.js';
import type { LayerRow } from './schema.js';
import { noteUnfinished } from './unfinished.js';
import { valuesOf } from './values.js';

/** Longest way from a head to its base that is followed; chains are kept far shorter. */
const maxDepth = 64;
/** Rows stored by one statement: SQLite takes 32,766 parameters at most, and a row has eight. */
const rowsOfStatement = 500;

/** The stored layer, if there is one. */
export async function findLayer(db: Database, id: string): Promise<LayerRow | undefined> {
  return await db.selectFrom('layers').selectAll().where('id', '=', id).executeTakeFirst();
}

/** The stored layer. Throws kysely's `NoResultError` without one: a database that points at none is broken. */
export async function requireLayer(db: Database, id: string): Promise<LayerRow> {
  return await db.selectFrom('layers').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
}

/** All layers, in the order of their ids. */
export async function allLayers(db: Database): Promise<LayerRow[]> {
  return await db.selectFrom('layers').selectAll().orderBy('id').execute();
}

/** Those of the layers that are there, in no order. */
export async function findLayers(db: Database, ids: readonly string[]): Promise<LayerRow[]> {
  return await db.selectFrom('layers').selectAll().where('id', 'in', valuesOf(ids)).execute();
}

/** The layers whose files may have lost something with the host's power: sealed ones, and heads that no machine had yet. */
export async function layersToProve(db: Database): Promise<LayerRow[]> {
  return await db
    .selectFrom('layers')
    .selectAll()
    .where((q) => q.or([q('state', '=', 'sealed'), q('size_bytes', '=', 0)]))
    .execute();
}

/** Stores layers; one that another of them needs comes before it. */
export async function insertLayers(tx: Database, rows: readonly LayerRow[]): Promise<void> {
  for (let at = 0; at < rows.length; at += rowsOfStatement) {
    await tx
      .insertInto('layers')
      .values(rows.slice(at, at + rowsOfStatement))
      .execute();
  }
}

/** A layer and all it needs, the base first. */
export async function chainOf(db: Database, layerId: string): Promise<LayerRow[]> {
  return await db
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
}

/**
 * Records that a head never changes again; `sizeBytes` is what it takes on disk, unless that is left as it was. Its file is
 * unfinished until it is sealed too.
 */
export async function sealLayer(tx: Database, id: string, sizeBytes?: number): Promise<void> {
  const size = sizeBytes === undefined ? {} : { size_bytes: sizeBytes };
  await tx
    .updateTable('layers')
    .set({ state: 'sealed', ...size })
    .where('id', '=', id)
    .execute();
  await noteUnfinished(tx, 'layer', id);
}

/**
 * Records that a layer stands on another one of the same content as its parent. Its file is unfinished until it names that
 * one too.
 */
export async function setParent(tx: Database, id: string, parentId: string): Promise<void> {
  await tx.updateTable('layers').set({ parent_id: parentId }).where('id', '=', id).execute();
  await noteUnfinished(tx, 'layer', id);
}

/** Gives those of the layers a size that have none: from then on something may be in them. */
export async function noteWritten(
  db: Database,
  layerIds: readonly string[],
  sizeBytes: number,
): Promise<void> {
  await db
    .updateTable('layers')
    .set({ size_bytes: sizeBytes })
    .where('id', 'in', valuesOf(layerIds))
    .where('size_bytes', '=', 0)
    .execute();
}

/** The sealed layers that have no hash. */
export async function layersWithoutHash(db: Database): Promise<LayerRow[]> {
  return await db
    .selectFrom('layers')
    .selectAll()
    .where('state', '=', 'sealed')
    .where('sha256', 'is', null)
    .execute();
}

/** Gives a layer its hash, unless it has one. */
export async function setHash(db: Database, id: string, sha256: string): Promise<void> {
  await db.updateTable('layers').set({ sha256 }).where('id', '=', id).where('sha256', 'is', null).execute();
}

/** What each of the layers stands on, where they are there. */
export async function parentsOf(
  db: Database,
  layerIds: readonly string[],
): Promise<Pick<LayerRow, 'id' | 'parent_id'>[]> {
  return await db
    .selectFrom('layers')
    .select(['id', 'parent_id'])
    .where('id', 'in', valuesOf(layerIds))
    .execute();
}

/** Ids of those of the layers that are of a kind. */
export async function layersOfKind(
  db: Database,
  layerIds: readonly string[],
  kind: string,
): Promise<string[]> {
  const rows = await db
    .selectFrom('layers')
    .select('id')
    .where('id', 'in', valuesOf(layerIds))
    .where('kind', '=', kind)
    .execute();
  return rows.map(({ id }) => id);
}

/** Id of a layer that stands on another one. */
export async function childOf(db: Database, layerId: string): Promise<string | undefined> {
  const child = await db
    .selectFrom('layers')
    .select('id')
    .where('parent_id', '=', layerId)
    .executeTakeFirst();
  return child?.id;
}

/** Bytes that layers take on disk, those of images left out. */
export async function bytesOf(db: Database, layerIds: Iterable<string>): Promise<number> {
  const sizes = await db
    .selectFrom('layers')
    .select('size_bytes')
    .where('id', 'in', valuesOf(layerIds))
    .where('kind', '!=', 'raw')
    .execute();
  return sizes.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
}
