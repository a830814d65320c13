import type { Consistency, SnapshotInfo } from '../../api/index.js';
import {
  type Database,
  type LayerUse,
  layersOfMemories,
  layerUses,
  type SnapshotRow,
  snapshotNames,
} from '../../store/index.js';

/** Snapshots as users see them. What several of them share is read once; nothing else is read. */
export async function snapshotInfos(db: Database, rows: readonly SnapshotRow[]): Promise<SnapshotInfo[]> {
  if (rows.length === 0) return [];
  const parents = await snapshotNames(
    db,
    rows.flatMap(({ parent_id }) => parent_id ?? []),
  );
  const memories = await layersOfMemories(
    db,
    rows.flatMap(({ memory_id }) => memory_id ?? []),
  );
  const layers = await layerUses(db, [
    ...rows.flatMap(({ guest_layer, disk_layer }) => [guest_layer, disk_layer]),
    ...[...memories.values()].flat(),
  ]);
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
