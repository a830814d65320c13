import type { Consistency, SnapshotInfo } from '../../api/index.js';
import type { Database, SnapshotRow } from '../../store/index.js';

interface LayerUse {
  readonly sizeBytes: number;
  readonly parentId: string | null;
  /** Snapshots, boxes and others that hold it. */
  holders: number;
  /** Layers that stand on it. */
  children: number;
}

/** Snapshots as users see them. What all of them share is read once. */
export async function snapshotInfos(db: Database, rows: readonly SnapshotRow[]): Promise<SnapshotInfo[]> {
  if (rows.length === 0) return [];
  const layers = await layerUses(db);
  const parents = await parentNames(db, rows);
  const memories = await memoryLayers(db, rows);
  return rows.map((row) => {
    const guestDiskBytes = chainBytes(layers, row.guest_layer);
    const containerDiskBytes = chainBytes(layers, row.disk_layer);
    return {
      id: row.id,
      boxId: row.box_id,
      name: row.name,
      createdAt: new Date(row.created_at),
      sizeBytes:
        guestDiskBytes + containerDiskBytes + memoryBytes(layers, memories.get(row.memory_id ?? '') ?? []),
      guestDiskBytes,
      containerDiskBytes,
      exclusiveBytes: exclusiveBytes(layers, row.guest_layer) + exclusiveBytes(layers, row.disk_layer),
      hasMemory: row.memory_id !== null,
      parent: (row.parent_id && parents.get(row.parent_id)) ?? null,
      consistency: row.consistency as Consistency,
    };
  });
}

async function layerUses(db: Database): Promise<Map<string, LayerUse>> {
  const layers = new Map<string, LayerUse>();
  const rows = await db.selectFrom('layers').select(['id', 'parent_id', 'size_bytes']).execute();
  for (const row of rows) {
    layers.set(row.id, { sizeBytes: row.size_bytes, parentId: row.parent_id, holders: 0, children: 0 });
  }
  for (const { parent_id } of rows) {
    const parent = parent_id && layers.get(parent_id);
    if (parent) parent.children += 1;
  }
  const holds = db
    .selectFrom('layer_holds')
    .select(['layer_id', (q) => q.fn.countAll<number>().as('holders')])
    .groupBy('layer_id');
  for (const { layer_id, holders } of await holds.execute()) {
    const layer = layers.get(layer_id);
    if (layer) layer.holders = Number(holders);
  }
  return layers;
}

async function parentNames(db: Database, rows: readonly SnapshotRow[]): Promise<Map<string, string>> {
  const names = new Map(rows.map(({ id, name }) => [id, name]));
  const others = rows.flatMap(({ parent_id }) => (parent_id && !names.has(parent_id) ? [parent_id] : []));
  // A parent is among the rows when all of a box are listed, unless it is gone.
  for (const id of new Set(others)) {
    const parent = await db.selectFrom('snapshots').select('name').where('id', '=', id).executeTakeFirst();
    if (parent) names.set(id, parent.name);
  }
  return names;
}

/** The layers of memory and devices that each snapshot's memory brought with it. */
async function memoryLayers(db: Database, rows: readonly SnapshotRow[]): Promise<Map<string, string[]>> {
  const ids = rows.flatMap(({ memory_id }) => (memory_id === null ? [] : [memory_id]));
  if (ids.length === 0) return new Map();
  const memories = await db
    .selectFrom('memories')
    .select(['id', 'layer_id', 'state_layer'])
    .where('id', 'in', ids)
    .execute();
  return new Map(memories.map(({ id, layer_id, state_layer }) => [id, [layer_id, state_layer]]));
}

function memoryBytes(layers: ReadonlyMap<string, LayerUse>, ids: readonly string[]): number {
  return ids.reduce((sum, id) => sum + chainBytes(layers, id), 0);
}

function chainBytes(layers: ReadonlyMap<string, LayerUse>, id: string): number {
  let bytes = 0;
  for (let layer = layers.get(id); layer; layer = layer.parentId ? layers.get(layer.parentId) : undefined) {
    bytes += layer.sizeBytes;
  }
  return bytes;
}

/** What would be freed: the layers from this one down that nothing else holds or stands on. */
function exclusiveBytes(layers: ReadonlyMap<string, LayerUse>, id: string): number {
  let bytes = 0;
  let heldHere = 1;
  let childrenGone = 0;
  for (let layer = layers.get(id); layer; layer = layer.parentId ? layers.get(layer.parentId) : undefined) {
    if (layer.holders > heldHere || layer.children > childrenGone) break;
    bytes += layer.sizeBytes;
    heldHere = 0;
    childrenGone = 1;
  }
  return bytes;
}
