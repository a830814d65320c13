import type { Database } from './database.js';
import type { Holder } from './holds.js';

/** Something that must hold layers, and the layers that its row names. */
export interface LayerNeed {
  readonly holder: Holder;
  readonly layers: readonly string[];
}

/** The layers that the rows of boxes, snapshots and volumes name. */
export async function layerNeeds(db: Database): Promise<LayerNeed[]> {
  const boxes = await db.selectFrom('boxes').select(['id', 'guest_head', 'disk_head']).execute();
  const snapshots = await db.selectFrom('snapshots').select(['id', 'guest_layer', 'disk_layer']).execute();
  const volumes = await db.selectFrom('volumes').select(['id', 'layer_id']).execute();
  return [
    ...boxes.map((it) => ({ holder: `box:${it.id}` as const, layers: [it.guest_head, it.disk_head] })),
    ...snapshots.map((it) => ({
      holder: `snapshot:${it.id}` as const,
      layers: [it.guest_layer, it.disk_layer],
    })),
    ...volumes.map((it) => ({ holder: `volume:${it.id}` as const, layers: [it.layer_id] })),
  ];
}
