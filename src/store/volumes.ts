import type { Database } from './database.js';

import { hold, release } from './holds.js';
import { insertLayers } from './layers.js';
import type { BoxRow, LayerRow, VolumeRow } from './schema.js';
import { valuesOf } from './values.js';

/** A volume of a box, and where it goes. */
export interface BoxVolume {
  readonly volumeId: string;
  /** Number of the machine's slot. */
  readonly slot: number;
  readonly guestPath: string;
  readonly readOnly: boolean;
}

/** Stores a new volume and its disk. */
export async function insertVolume(tx: Database, row: VolumeRow, disk: LayerRow): Promise<void> {
  await insertLayers(tx, [disk]);
  await tx.insertInto('volumes').values(row).execute();
  await hold(tx, `volume:${row.id}`, [disk.id]);
}

/** Deletes a volume that no box has; its disk becomes garbage. */
export async function deleteVolume(tx: Database, volumeId: string): Promise<void> {
  await tx.deleteFrom('volumes').where('id', '=', volumeId).execute();
  await release(tx, `volume:${volumeId}`);
}

/** Stores that a box has a volume. Returns false, and stores nothing, when the volume is gone. */
export async function insertBoxVolume(
  tx: Database,
  boxId: string,
  { volumeId, slot, guestPath, readOnly }: BoxVolume,
): Promise<boolean> {
  const volume = tx.selectFrom('volumes').select('id').where('id', '=', volumeId);
  if (!(await volume.executeTakeFirst())) return false;
  const read_only = readOnly ? 1 : 0;
  const row = { box_id: boxId, slot, volume_id: volumeId, guest_path: guestPath, read_only };
  await tx.insertInto('box_volumes').values(row).execute();
  return true;
}

/** The volumes of a box, in the order of their slots. */
export async function volumesOfBox(
  db: Database,
  boxId: string,
): Promise<(BoxVolume & Pick<VolumeRow, 'id' | 'name' | 'layer_id'>)[]> {
  const rows = await db
    .selectFrom('box_volumes')
    .innerJoin('volumes', 'volumes.id', 'box_volumes.volume_id')
    .select(['volumes.id', 'volumes.name', 'volumes.layer_id'])
    .select(['box_volumes.slot', 'box_volumes.guest_path', 'box_volumes.read_only'])
    .where('box_volumes.box_id', '=', boxId)
    .orderBy('box_volumes.slot')
    .execute();
  return rows.map(({ guest_path, read_only, ...row }) => ({
    ...row,
    volumeId: row.id,
    guestPath: guest_path,
    readOnly: read_only === 1,
  }));
}

/** Boxes that have a volume, at most `limit` of them. */
export async function boxesWithVolume(
  db: Database,
  volumeId: string,
  limit: number,
): Promise<Pick<BoxRow, 'id' | 'name' | 'status'>[]> {
  return await db
    .selectFrom('box_volumes')
    .innerJoin('boxes', 'boxes.id', 'box_volumes.box_id')
    .select(['boxes.id', 'boxes.name', 'boxes.status'])
    .where('box_volumes.volume_id', '=', volumeId)
    .limit(limit)
    .execute();
}

/** Ids of all boxes that have a volume, in order. */
export async function boxIdsWithVolume(db: Database, volumeId: string): Promise<string[]> {
  const boxes = await db
    .selectFrom('box_volumes')
    .select('box_id')
    .where('volume_id', '=', volumeId)
    .orderBy('box_id')
    .execute();
  return boxes.map(({ box_id }) => box_id);
}

/** Whom {@link volumeHolder} looks for. */
interface HolderQuery {
  readonly volumeId: string;
  /** The box that asks: any other one counts. */
  readonly exceptBox: string;
  /** Boxes in one of these states have their volumes. */
  readonly statuses: readonly string[];
  /** Boxes that have them whatever their state. */
  readonly alsoBoxes: Iterable<string>;
  /** Leaves out those that only read. */
  readonly writersOnly: boolean;
}

/** A box that has a volume now. */
export async function volumeHolder(
  db: Database,
  { volumeId, exceptBox, statuses, alsoBoxes, writersOnly }: HolderQuery,
): Promise<(Pick<BoxRow, 'id' | 'name' | 'status'> & { readonly readOnly: boolean }) | undefined> {
  let others = db
    .selectFrom('box_volumes')
    .innerJoin('boxes', 'boxes.id', 'box_volumes.box_id')
    .select(['boxes.id', 'boxes.name', 'boxes.status', 'box_volumes.read_only'])
    .where('box_volumes.volume_id', '=', volumeId)
    .where('boxes.id', '!=', exceptBox)
    .where((q) =>
      q.or([q('boxes.status', 'in', valuesOf(statuses)), q('boxes.id', 'in', valuesOf(alsoBoxes))]),
    );
  if (writersOnly) others = others.where('box_volumes.read_only', '=', 0);
  const holder = await others.executeTakeFirst();
  if (!holder) return undefined;
  const { read_only, ...box } = holder;
  return { ...box, readOnly: read_only === 1 };
}
