import type { BoxInfo, BoxStatus, StageTimes } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { BoxChanges, BoxRow, Database } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { tell } from '../events.js';
import type { BoxConfig } from './config.js';

/** The stored box, or `not_found`. */
export async function requireRow(db: Database, boxId: string): Promise<BoxRow> {
  const row = await db.selectFrom('boxes').selectAll().where('id', '=', boxId).executeTakeFirst();
  if (row) return row;
  throw new CryoboxError('not_found', `there is no box ${boxId}`, { details: { box: boxId } });
}

/** Finds a box of a tenant by id, name, or a beginning of an id that only one box has. */
export async function findRow(db: Database, tenant: string, idOrName: string): Promise<BoxRow | undefined> {
  const boxes = db.selectFrom('boxes').selectAll().where('tenant', '=', tenant);
  const exact = await boxes.where((q) => q.or([q('id', '=', idOrName), q('name', '=', idOrName)])).execute();
  const byId = exact.find((row) => row.id === idOrName);
  if (byId ?? exact[0]) return byId ?? exact[0];
  if (!/^box_[0-9a-z]+$/.test(idOrName)) return undefined;
  const after = `${idOrName.slice(0, -1)}${String.fromCharCode(idOrName.charCodeAt(idOrName.length - 1) + 1)}`;
  const begun = await boxes.where('id', '>=', idOrName).where('id', '<', after).limit(2).execute();
  return begun.length === 1 ? begun[0] : undefined;
}

/** Stores changes of a box and tells whoever listens. */
export async function updateBox(ctx: EngineContext, boxId: string, changes: BoxChanges): Promise<void> {
  const now = Date.now();
  const changed = await ctx.db
    .updateTable('boxes')
    .set({ updated_at: now, ...changes })
    .where('id', '=', boxId)
    .returning(['id', 'tenant'])
    .executeTakeFirst();
  if (changes.status && changed) announce(ctx, changed, changes.status);
}

/** Tells whoever listens that a box changed. */
export function announce(
  ctx: EngineContext,
  { id, tenant }: Pick<BoxRow, 'id' | 'tenant'>,
  change: string,
): void {
  tell(ctx, { tenant, kind: 'box', id, change });
}

/** The part of a box that is stored as JSON. */
export function configOf(row: BoxRow): BoxConfig {
  return JSON.parse(row.config) as BoxConfig;
}

/** Bytes that the memory of a paused box takes beyond what it was restored from. */
async function pausedBytes(ctx: EngineContext, row: BoxRow): Promise<number> {
  if (row.memory_id === null) return 0;
  const memory = await ctx.db
    .selectFrom('memories')
    .select(['layer_id', 'state_layer'])
    .where('id', '=', row.memory_id)
    .executeTakeFirst();
  if (!memory) return 0;
  const layers = [memory.layer_id, memory.state_layer];
  const sizes = await ctx.db.selectFrom('layers').select('size_bytes').where('id', 'in', layers).execute();
  return sizes.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
}

/** A box as users see it. */
export async function infoOf(ctx: EngineContext, row: BoxRow): Promise<BoxInfo> {
  const live = ctx.live.get(row.id);
  const config = configOf(row);
  return {
    id: row.id,
    name: row.name,
    status: row.status as BoxStatus,
    operation: ctx.activities.get(row.id) ?? null,
    createdAt: new Date(row.created_at),
    updatedAt: new Date(row.updated_at),
    image: row.image,
    template: row.template,
    cpus: row.cpus,
    memoryMiB: row.memory_mib,
    diskSizeGb: row.disk_size_gb,
    ...config,
    labels: JSON.parse(row.labels) as Record<string, string>,
    autoStop: row.auto_stop,
    autoStopAction: row.auto_stop_action as BoxInfo['autoStopAction'],
    autoDelete: row.auto_delete,
    autoResume: row.auto_resume === 1,
    detach: row.detach === 1,
    pid: live?.machine.process.pid ?? null,
    run: live?.run ?? null,
    failure: row.failure,
    stages: JSON.parse(row.stages) as StageTimes,
    storage: {
      diskBytes:
        (await ctx.layers.allocatedBytes(row.guest_head)) + (await ctx.layers.allocatedBytes(row.disk_head)),
      memoryBytes: await pausedBytes(ctx, row),
    },
  };
}
