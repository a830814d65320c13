import { type BoxStatus, type OperationName, ruleOf } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { announce, requireRow } from './rows.js';

/** Throws `invalid_state` unless the table of operations lets this one start from the box's state. */
export function checkLegal(operation: OperationName, row: BoxRow): void {
  const rule = ruleOf(operation);
  if (rule.from.includes(row.status as BoxStatus)) return;
  const next = rule.otherwise ?? `It must be ${rule.from.join(', ')}`;
  throw new CryoboxError('invalid_state', `cannot ${operation} while the box is ${row.status}. ${next}.`, {
    hint: next,
    details: { box: row.id, status: row.status, operation },
  });
}

/**
 * Runs an operation that excludes others on the box: waits for its turn, checks that it is legal, shows what is
 * under way meanwhile. Throws `invalid_state`, `not_found`, and what the task throws.
 */
export async function exclusively<T>(
  ctx: EngineContext,
  boxId: string,
  operation: OperationName,
  task: (row: BoxRow) => Promise<T>,
): Promise<T> {
  return await ctx.boxLocks.run(boxId, async () => {
    const row = await requireRow(ctx.db, boxId);
    checkLegal(operation, row);
    const { activity } = ruleOf(operation);
    if (!activity) return await task(row);
    ctx.activities.set(boxId, activity);
    announce(ctx, row, activity);
    try {
      return await task(row);
    } finally {
      ctx.activities.delete(boxId);
    }
  });
}
