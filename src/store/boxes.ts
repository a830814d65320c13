import type { Database } from './database.js';
import { hold, holdOnly, release } from './holds.js';
import { insertLayers } from './layers.js';
import type { BoxChanges, BoxRow, LayerRow } from './schema.js';
import { rangeOf, unindexed, valuesOf } from './values.js';

/** The stored box, if there is one. */
export async function findBox(db: Database, boxId: string): Promise<BoxRow | undefined> {
  return await db.selectFrom('boxes').selectAll().where('id', '=', boxId).executeTakeFirst();
}

/** Finds a box of a tenant by id, name, or a beginning of an id that only one box has. */
export async function findBoxNamed(
  db: Database,
  tenant: string,
  idOrName: string,
): Promise<BoxRow | undefined> {
  const boxes = db.selectFrom('boxes').selectAll().where('tenant', '=', tenant);
  const exact = await boxes.where((q) => q.or([q('id', '=', idOrName), q('name', '=', idOrName)])).execute();
  const byId = exact.find((row) => row.id === idOrName);
  if (byId ?? exact[0]) return byId ?? exact[0];
  if (!/^box_[0-9a-z]+$/.test(idOrName)) return undefined;
  const { from, to } = rangeOf(idOrName);
  const begun = await db
    .selectFrom('boxes')
    .selectAll()
    .where('id', '>=', from)
    .where('id', '<', to)
    .where(unindexed('tenant'), '=', tenant)
    .limit(2)
    .execute();
  return begun.length === 1 ? begun[0] : undefined;
}

/** Those of the boxes that are there and belong to the tenant, in no order. */
export async function findBoxes(db: Database, tenant: string, ids: readonly string[]): Promise<BoxRow[]> {
  return await db
    .selectFrom('boxes')
    .selectAll()
    .where('id', 'in', valuesOf(ids))
    .where(unindexed('tenant'), '=', tenant)
    .execute();
}

/** Stores changes of a box; returns whose box it is, or nothing when there is none. */
export async function changeBox(
  db: Database,
  boxId: string,
  changes: BoxChanges,
): Promise<Pick<BoxRow, 'id' | 'tenant'> | undefined> {
  return await db
    .updateTable('boxes')
    .set(changes)
    .where('id', '=', boxId)
    .returning(['id', 'tenant'])
    .executeTakeFirst();
}

/** All boxes. */
export async function allBoxes(db: Database): Promise<BoxRow[]> {
  return await db.selectFrom('boxes').selectAll().execute();
}

/** The box that has a layer as one of its heads. */
export async function findBoxWithHead(
  db: Database,
  layerId: string,
): Promise<Pick<BoxRow, 'id' | 'guest_head' | 'disk_head'> | undefined> {
  return await db
    .selectFrom('boxes')
    .select(['id', 'guest_head', 'disk_head'])
    .where((q) => q.or([q('guest_head', '=', layerId), q('disk_head', '=', layerId)]))
    .executeTakeFirst();
}

/** Whether there is a box that is removed when nobody has used it for some time. */
export async function hasBoxToRemove(db: Database): Promise<boolean> {
  const box = await db.selectFrom('boxes').select('id').where('auto_delete', '>', 0).executeTakeFirst();
  return box !== undefined;
}

/** Stores a new box; `layers` are its heads and what else is not stored yet, a layer before those that need it. */
export async function insertBox(tx: Database, row: BoxRow, layers: readonly LayerRow[]): Promise<void> {
  await insertLayers(tx, layers);
  await tx.insertInto('boxes').values(row).execute();
  await hold(tx, `box:${row.id}`, [row.guest_head, row.disk_head]);
}

/** Gives a box other heads, which are stored already, and stores other changes with them. What it had is let go. */
export async function changeHeads(
  tx: Database,
  boxId: string,
  changes: BoxChanges & Pick<BoxRow, 'guest_head' | 'disk_head'>,
): Promise<void> {
  await changeBox(tx, boxId, changes);
  await holdOnly(tx, `box:${boxId}`, [changes.guest_head, changes.disk_head]);
}

/** Deletes a box with its snapshots; their layers become garbage. */
export async function deleteBox(tx: Database, boxId: string): Promise<void> {
  await release(tx, `box:${boxId}`);
  const snapshots = await tx.selectFrom('snapshots').select('id').where('box_id', '=', boxId).execute();
  for (const { id } of snapshots) await release(tx, `snapshot:${id}`);
  await tx.deleteFrom('boxes').where('id', '=', boxId).execute();
}
