import type { Database } from './database.js';
import type { BoxRow } from './schema.js';

/** Whether a box is in use, and when its last use ended, in milliseconds since 1970. */
export interface BoxUsage {
  readonly id: string;
  readonly inUse: boolean;
  readonly lastUsedAt: number;
}

const useColumns = [
  'id',
  'status',
  'auto_stop',
  'auto_stop_action',
  'auto_delete',
  'last_active_at',
  'in_use',
] as const;

/** What of a box says whether it is idle, and what is to be done then. */
export type BoxUseRow = Pick<BoxRow, (typeof useColumns)[number]>;

/** How all boxes are used, as far as that was written. */
export async function allBoxUses(db: Database): Promise<BoxUseRow[]> {
  return await db.selectFrom('boxes').select(useColumns).execute();
}

/** Writes how boxes are used, all or nothing. */
export async function storeUses(db: Database, uses: readonly BoxUsage[]): Promise<void> {
  await db.transaction().execute(async (tx) => {
    for (const { id, inUse, lastUsedAt } of uses) {
      const changes = { in_use: inUse ? 1 : 0, last_active_at: lastUsedAt };
      await tx.updateTable('boxes').set(changes).where('id', '=', id).execute();
    }
  });
}
