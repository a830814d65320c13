import type { DiskSlot } from '../../machine/index.js';
import type { Database, LayerRow } from '../../store/index.js';

/** The disks of a box. */
export const slots = ['guest', 'disk'] as const satisfies readonly DiskSlot[];

/** Where a box's row names the head of a disk. */
export const headColumn = { guest: 'guest_head', disk: 'disk_head' } as const;

/** The stored layer; a database that points at none is broken. */
export async function requireLayer(db: Database, id: string): Promise<LayerRow> {
  return await db.selectFrom('layers').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
}
