import { CryoboxError } from '../../errors.js';
import { type BoxChanges, type BoxRow, changeBox, type Database, findBox } from '../../store/index.js';
import { tell } from '../core/events.js';
import { type BoxConfig, parseConfig } from './config.js';
import type { RecordContext } from './context.js';

/** The stored box, or `not_found`. */
export async function requireRow(db: Database, boxId: string): Promise<BoxRow> {
  const row = await findBox(db, boxId);
  if (row) return row;
  throw new CryoboxError('not_found', `there is no box ${boxId}`, { details: { box: boxId } });
}

/** Stores changes of a box and tells whoever listens. */
export async function updateBox(ctx: RecordContext, boxId: string, changes: BoxChanges): Promise<void> {
  const changed = await changeBox(ctx.db, boxId, { updated_at: Date.now(), ...changes });
  if (changes.status && changed) announce(ctx, changed, changes.status);
}

/** Tells whoever listens that a box changed. */
export function announce(
  ctx: RecordContext,
  { id, tenant }: Pick<BoxRow, 'id' | 'tenant'>,
  change: string,
): void {
  tell(ctx, { tenant, kind: 'box', id, change });
}

/** The part of a box that is stored as JSON. */
export function configOf(row: Pick<BoxRow, 'config'>): BoxConfig {
  return parseConfig(row.config);
}
