import type { Database } from './database.js';
import { hold } from './holds.js';
import { insertLayers } from './layers.js';
import { insertMemory } from './memories.js';
import { type HeldMemory, parentsFirst } from './replicas.js';
import type { BoxRow, DepartureRow, LayerRow, SnapshotRow } from './schema.js';

/** Records that a box has left this home, and what its store is to be told of it; in the commit that deletes the box. */
export async function noteDeparture(tx: Database, departure: DepartureRow): Promise<void> {
  await tx.insertInto('departures').values(departure).execute();
}

/** What a store was not told yet, in no order. */
export async function departuresTo(db: Database, store: string): Promise<DepartureRow[]> {
  return await db.selectFrom('departures').selectAll().where('store', '=', store).execute();
}

/** Forgets a departure that its store was told of. */
export async function forgetDeparture(
  db: Database,
  { box_id, epoch }: Pick<DepartureRow, 'box_id' | 'epoch'>,
): Promise<void> {
  await db.deleteFrom('departures').where('box_id', '=', box_id).where('epoch', '=', epoch).execute();
}

/** A box that arrives from another home. */
export interface Arrival {
  /** With its new heads. */
  readonly box: BoxRow;
  /** Those that this home did not have, heads among them; in any order. */
  readonly layers: readonly LayerRow[];
  readonly memories: readonly HeldMemory[];
  readonly snapshots: readonly SnapshotRow[];
}

/** Stores a box of another home. What it shares with boxes that are here, memories and layers, is there once. */
export async function insertArrival(
  tx: Database,
  { box, layers, memories, snapshots }: Arrival,
): Promise<void> {
  await insertLayers(tx, parentsFirst(layers));
  for (const { row, holds } of memories) {
    const isHere = await tx.selectFrom('memories').select('id').where('id', '=', row.id).executeTakeFirst();
    if (!isHere) await insertMemory(tx, row, holds);
  }
  await tx.insertInto('boxes').values(box).execute();
  await hold(tx, `box:${box.id}`, [box.guest_head, box.disk_head]);
  for (const row of snapshots) {
    await tx.insertInto('snapshots').values(row).execute();
    await hold(tx, `snapshot:${row.id}`, [row.guest_layer, row.disk_layer]);
  }
}
