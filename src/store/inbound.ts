import type { Database } from './database.js';

/** Makes the ports of a box public, or private. */
export async function setPublic(tx: Database, boxId: string, isPublic: boolean): Promise<void> {
  if (isPublic) {
    const row = { box_id: boxId };
    await tx
      .insertInto('public_boxes')
      .values(row)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  } else await tx.deleteFrom('public_boxes').where('box_id', '=', boxId).execute();
}

/** Whose box it is whose ports are public; undefined when they are not. */
export async function findPublicBox(
  db: Database,
  boxId: string,
): Promise<{ readonly tenant: string } | undefined> {
  return await db
    .selectFrom('public_boxes')
    .innerJoin('boxes', 'boxes.id', 'public_boxes.box_id')
    .select('boxes.tenant')
    .where('public_boxes.box_id', '=', boxId)
    .executeTakeFirst();
}
