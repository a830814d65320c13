import type { Database } from './database.js';
import type { BoxRow, SnapshotRow } from './schema.js';

/** All snapshots of a tenant's boxes, oldest first. */
export async function listAllSnapshots(db: Database, tenant: string): Promise<SnapshotRow[]> {
  return await db
    .selectFrom('snapshots')
    .selectAll('snapshots')
    .innerJoin('boxes', 'boxes.id', 'snapshots.box_id')
    .where('boxes.tenant', '=', tenant)
    .orderBy('snapshots.created_at')
    .orderBy('snapshots.id')
    .execute();
}

/** What the boxes of a tenant descend from: the latest snapshot, and the image. */
export async function listBoxOrigins(
  db: Database,
  tenant: string,
): Promise<Pick<BoxRow, 'id' | 'snapshot_id' | 'image' | 'disk_head'>[]> {
  return await db
    .selectFrom('boxes')
    .select(['id', 'snapshot_id', 'image', 'disk_head'])
    .where('tenant', '=', tenant)
    .execute();
}
