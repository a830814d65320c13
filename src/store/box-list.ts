import type { Database } from './database.js';
import type { BoxRow } from './schema.js';

/** The columns of a box that change whenever it, its files included, does while it has no machine. */
export const stampColumns = [
  'id',
  'status',
  'updated_at',
  'last_active_at',
  'guest_head',
  'disk_head',
  'memory_id',
  'failure',
  'record_version',
] as const;

/** What tells that a box without a machine is as it was. */
export type BoxStamp = Pick<BoxRow, (typeof stampColumns)[number]>;

/** Which boxes of a tenant are listed. */
export interface BoxQuery {
  /** Only those in this state; absent: in all. */
  readonly status?: string;
  /** Only those that come after this one. */
  readonly after?: Pick<BoxRow, 'id' | 'created_at'>;
  /** Absent: all. */
  readonly limit?: number;
}

/** The boxes of a tenant, newest first. */
export async function listBoxStamps(
  db: Database,
  tenant: string,
  { status, after, limit }: BoxQuery,
): Promise<BoxStamp[]> {
  let query = db.selectFrom('boxes').select(stampColumns).where('tenant', '=', tenant);
  if (status) query = query.where('status', '=', status);
  if (after) {
    const { created_at, id } = after;
    // A row value, which the index on both is searched by.
    query = query.where((q) => q(q.refTuple('created_at', 'id'), '<', q.tuple(created_at, id)));
  }
  if (limit !== undefined) query = query.limit(limit);
  return await query.orderBy('created_at', 'desc').orderBy('id', 'desc').execute();
}

/** How many boxes of a tenant are in a state. */
export async function countBoxes(db: Database, tenant: string, status: string): Promise<number> {
  const { boxes } = await db
    .selectFrom('boxes')
    .select((q) => q.fn.countAll<number>().as('boxes'))
    .where('tenant', '=', tenant)
    .where('status', '=', status)
    .executeTakeFirstOrThrow();
  return Number(boxes);
}
