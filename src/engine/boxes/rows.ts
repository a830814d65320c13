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
