import type { Database } from './database.js';
import { hold, release } from './holds.js';
import type { SnapshotRow } from './schema.js';
import { valuesOf } from './values.js';

/** The snapshot of a box with that name. */
export async function findSnapshot(
  db: Database,
  boxId: string,
  name: string,
): Promise<SnapshotRow | undefined> {
  return await db
    .selectFrom('snapshots')
    .selectAll()
    .where('box_id', '=', boxId)
    .where('name', '=', name)
    .executeTakeFirst();
}

/** Whether a snapshot is still there. */
export async function snapshotExists(db: Database, id: string): Promise<boolean> {
  const found = await db.selectFrom('snapshots').select('id').where('id', '=', id).executeTakeFirst();
  return found !== undefined;
}

/** The snapshots of a box, newest first. */
export async function listSnapshots(db: Database, boxId: string): Promise<SnapshotRow[]> {
  return await db
    .selectFrom('snapshots')
    .selectAll()
    .where('box_id', '=', boxId)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .execute();
}

/** Names of those of the snapshots that are there, by id. */
export async function snapshotNames(db: Database, ids: Iterable<string>): Promise<Map<string, string>> {
  const rows = await db
    .selectFrom('snapshots')
    .select(['id', 'name'])
    .where('id', 'in', valuesOf(ids))
    .execute();
  return new Map(rows.map(({ id, name }) => [id, name]));
}

/** Stores a snapshot; its box descends from it from then on. */
export async function insertSnapshot(tx: Database, row: SnapshotRow): Promise<void> {
  await tx.insertInto('snapshots').values(row).execute();
  await tx.updateTable('boxes').set({ snapshot_id: row.id }).where('id', '=', row.box_id).execute();
  await hold(tx, `snapshot:${row.id}`, [row.guest_layer, row.disk_layer]);
}

/** Deletes a snapshot, and lets go of its layers. */
export async function deleteSnapshot(tx: Database, id: string): Promise<void> {
  await release(tx, `snapshot:${id}`);
  await tx.deleteFrom('snapshots').where('id', '=', id).execute();
}
