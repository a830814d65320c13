import { type BoxRow, isUniqueViolation } from '../../store/index.js';
import type { RecordContext } from '../record/context.js';
import { nameTaken, refuseTakenName } from '../record/names.js';
import { announce, updateBox } from '../record/rows.js';

/** Gives a box another name, which was checked; its own changes nothing. Throws `already_exists`. */
export async function renameBox(ctx: RecordContext, row: BoxRow, name: string): Promise<void> {
  if (row.name === name) return;
  await refuseTakenName(ctx.db, row.tenant, name);
  try {
    await updateBox(ctx, row.id, { name });
  } catch (error) {
    throw isUniqueViolation(error) ? nameTaken(name) : error;
  }
  announce(ctx, row, 'renamed');
}
