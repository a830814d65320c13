import type { Database } from './database.js';
import { type Holder, hold } from './holds.js';
import { insertLayers } from './layers.js';
import { insertMemory } from './memories.js';
import type { BoxRow, ImageRow, LayerRow, MemoryRow, SnapshotRow, TemplateRow } from './schema.js';
import { valuesOf } from './values.js';

/** Keys of facts about the home itself. */
const homeIdKey = 'home_id';

/** The home's own id: `fresh`, where it had none yet. */
export async function keepHomeId(db: Database, fresh: string): Promise<string> {
  await db
    .insertInto('meta')
    .values({ key: homeIdKey, value: fresh })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const kept = db.selectFrom('meta').select('value').where('key', '=', homeIdKey);
  return (await kept.executeTakeFirstOrThrow()).value;
}

/** Which record of each box an object store has, by the box's id. */
export async function replicasIn(db: Database, store: string): Promise<Map<string, number>> {
  const rows = await db
    .selectFrom('replicas')
    .select(['box_id', 'version'])
    .where('store', '=', store)
    .execute();
  return new Map(rows.map(({ box_id, version }) => [box_id, version]));
}

/** Records which record of a box an object store has; nothing when the box is gone. Returns whether it is there. */
export async function noteReplica(
  tx: Database,
  replica: { readonly box_id: string; readonly store: string; readonly version: number },
): Promise<boolean> {
  const box = await tx.selectFrom('boxes').select('id').where('id', '=', replica.box_id).executeTakeFirst();
  if (!box) return false;
  const { store, version } = replica;
  await tx
    .insertInto('replicas')
    .values(replica)
    .onConflict((c) => c.column('box_id').doUpdateSet({ store, version }))
    .execute();
  return true;
}

/** Boxes without a machine, and the number of the record of each. */
export async function boxesAtRest(
  db: Database,
): Promise<Pick<BoxRow, 'id' | 'status' | 'failure' | 'record_version'>[]> {
  return await db
    .selectFrom('boxes')
    .select(['id', 'status', 'failure', 'record_version'])
    .where('status', 'in', ['stopped', 'paused', 'failed'])
    .orderBy('id')
    .execute();
}

/** Every template of every tenant. */
export async function allTemplates(db: Database): Promise<TemplateRow[]> {
  return await db.selectFrom('templates').selectAll().orderBy('id').execute();
}

/** Every reference to an image of every tenant. */
export async function allImages(db: Database): Promise<ImageRow[]> {
  return await db.selectFrom('images').selectAll().orderBy('id').execute();
}

/** The base disks of an image, by size. */
export async function disksOfImage(
  db: Database,
  manifestDigest: string,
): Promise<{ size_gb: number; layer_id: string }[]> {
  return await db
    .selectFrom('image_disks')
    .select(['size_gb', 'layer_id'])
    .where('manifest_digest', '=', manifestDigest)
    .orderBy('size_gb')
    .execute();
}

/** The layers that a holder holds, without what they need. */
export async function heldBy(db: Database, holder: Holder): Promise<string[]> {
  const rows = await db.selectFrom('layer_holds').select('layer_id').where('holder', '=', holder).execute();
  return rows.map(({ layer_id }) => layer_id);
}

/** Layers and all that they need, each once; one that another needs comes before it. */
export async function layersWithNeeded(db: Database, ids: readonly string[]): Promise<LayerRow[]> {
  const rows = await db
    .withRecursive('needed', (q) =>
      q
        .selectFrom('layers')
        .select(['layers.id', 'layers.parent_id'])
        .where('layers.id', 'in', valuesOf(ids))
        .union(
          q
            .selectFrom('layers')
            .innerJoin('needed', 'layers.id', 'needed.parent_id')
            .select(['layers.id', 'layers.parent_id']),
        ),
    )
    .selectFrom('layers')
    .selectAll()
    .where('id', 'in', (q) => q.selectFrom('needed').select('needed.id'))
    .execute();
  return parentsFirst(rows);
}

/** Layers in an order in which they can be stored. */
export function parentsFirst(rows: readonly LayerRow[]): LayerRow[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const ordered = new Set<LayerRow>();
  const add = (row: LayerRow): void => {
    const parent = byId.get(row.parent_id ?? '');
    if (parent && !ordered.has(parent)) add(parent);
    ordered.add(row);
  };
  for (const row of rows) add(row);
  return [...ordered];
}

/** Whether a home has nothing in it that could be lost. */
export async function isEmptyHome(db: Database): Promise<boolean> {
  for (const table of ['boxes', 'images', 'templates', 'volumes', 'layers'] as const) {
    const row = await db
      .selectFrom(table as 'boxes')
      .select('id')
      .limit(1)
      .executeTakeFirst();
    if (row) return false;
  }
  return true;
}

/** A memory, and the layers that it holds. */
export interface HeldMemory {
  readonly row: MemoryRow;
  readonly holds: readonly string[];
}

/** What a home gets back from an object store. */
export interface RecoveredHome {
  /** What of the store it is. */
  readonly store: string;
  /** Heads among them; in any order. */
  readonly layers: readonly LayerRow[];
  readonly memories: readonly HeldMemory[];
  /** With their new heads. */
  readonly boxes: readonly BoxRow[];
  readonly snapshots: readonly SnapshotRow[];
  readonly templates: readonly TemplateRow[];
  readonly images: readonly ImageRow[];
  readonly disks: readonly {
    readonly manifest_digest: string;
    readonly size_gb: number;
    readonly layer_id: string;
  }[];
}

/** Stores all of a home that was recovered. */
export async function insertRecovered(tx: Database, home: RecoveredHome): Promise<void> {
  await insertLayers(tx, parentsFirst(home.layers));
  for (const { row, holds } of home.memories) await insertMemory(tx, row, holds);
  for (const row of home.images) await tx.insertInto('images').values(row).execute();
  for (const disk of home.disks) {
    await tx.insertInto('image_disks').values(disk).execute();
    await hold(tx, `image:${disk.manifest_digest}`, [disk.layer_id]);
  }
  for (const row of home.boxes) {
    await tx.insertInto('boxes').values(row).execute();
    await hold(tx, `box:${row.id}`, [row.guest_head, row.disk_head]);
  }
  for (const row of home.snapshots) {
    await tx.insertInto('snapshots').values(row).execute();
    await hold(tx, `snapshot:${row.id}`, [row.guest_layer, row.disk_layer]);
  }
  for (const row of home.templates) await tx.insertInto('templates').values(row).execute();
  // The records are in the store: that is where they come from.
  const versions = await tx.selectFrom('boxes').select(['id', 'record_version']).execute();
  for (const { id, record_version: version } of versions) {
    await noteReplica(tx, { box_id: id, store: home.store, version });
  }
}
