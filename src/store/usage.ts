import type { Database } from './database.js';
import type { BoxRow } from './schema.js';

/** A box that has a machine, or may have one still. */
export type UpBox = Pick<BoxRow, 'id' | 'tenant' | 'cpus' | 'memory_mib'>;

/** What boxes, volumes, snapshots and templates there are. */
export interface Possessions {
  readonly boxes: number;
  /** Sizes of the disks of boxes and volumes, in GiB. */
  readonly diskGb: number;
  /** Snapshots and templates. */
  readonly snapshots: number;
}

const bytesPerGb = 1024 ** 3;

/** The boxes that run or are being stopped, of all tenants. */
export async function upBoxes(db: Database): Promise<UpBox[]> {
  return await db
    .selectFrom('boxes')
    .select(['id', 'tenant', 'cpus', 'memory_mib'])
    .where('status', 'in', ['running', 'stopping'])
    .execute();
}

/** What a tenant has, or what all have together. */
export async function possessionsOf(db: Database, tenant: string | undefined): Promise<Possessions> {
  const [boxes, volumes, snapshots, templates] = [
    await totals(db, 'boxes', 'disk_size_gb', tenant),
    await totals(db, 'volumes', 'size_bytes', tenant),
    await countSnapshots(db, tenant),
    await totals(db, 'templates', 'disk_size_gb', tenant),
  ];
  return {
    boxes: boxes.count,
    diskGb: boxes.sum + Math.ceil(volumes.sum / bytesPerGb),
    snapshots: snapshots + templates.count,
  };
}

async function totals(
  db: Database,
  table: 'boxes' | 'volumes' | 'templates',
  column: 'disk_size_gb' | 'size_bytes',
  tenant: string | undefined,
): Promise<{ readonly count: number; readonly sum: number }> {
  const { ref } = db.dynamic;
  let query = db
    .selectFrom(table as 'boxes')
    .select((q) => [
      q.fn.countAll<number>().as('count'),
      q.fn.sum<number | null>(ref<'disk_size_gb'>(column)).as('sum'),
    ]);
  if (tenant !== undefined) query = query.where('tenant', '=', tenant);
  const { count, sum } = await query.executeTakeFirstOrThrow();
  return { count: Number(count), sum: Number(sum ?? 0) };
}

async function countSnapshots(db: Database, tenant: string | undefined): Promise<number> {
  let query = db
    .selectFrom('snapshots')
    .innerJoin('boxes', 'boxes.id', 'snapshots.box_id')
    .select((q) => q.fn.countAll<number>().as('count'));
  if (tenant !== undefined) query = query.where('boxes.tenant', '=', tenant);
  return Number((await query.executeTakeFirstOrThrow()).count);
}
