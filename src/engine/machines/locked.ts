import { type BoxStatus, type OperationName, ruleOf } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import type { BoxRow } from '../../store/index.js';
import { announce, requireRow } from '../record/rows.js';
import { refuseUndecided } from '../record/undecided.js';
import type { MachinesContext } from './context.js';
import { buryMachine } from './watch.js';

/** Throws `invalid_state` or `stopped` unless the table of operations lets this one start from the box's state. */
export function checkLegal(operation: OperationName, row: BoxRow): void {
  const rule = ruleOf(operation);
  if (rule.from.includes(row.status as BoxStatus)) {
    refuseUndecided(operation, row);
    return;
  }
  const next = rule.otherwise ?? `It must be ${rule.from.join(', ')}`;
  throw new CryoboxError('invalid_state', `cannot ${operation} while the box is ${row.status}. ${next}.`, {
    hint: next,
    details: { box: row.id, status: row.status, operation },
  });
}

/**
 * Runs a task while nothing else changes the box; what a machine left that has ended is recorded first. Throws `cancelled`
 * when the signal is raised before its turn, and what the task throws.
 */
export async function underLock<T>(
  ctx: MachinesContext,
  boxId: string,
  task: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  return await ctx.boxLocks.run(
    boxId,
    async () => {
      const live = ctx.live.get(boxId);
      // Whoever ends a machine has the lock until it has ended: what is found here was refused something in the middle.
      if (live?.leaves !== undefined && live.leaves !== 'closed') await buryMachine(ctx, live);
      return await task();
    },
    signal,
  );
}

/**
 * Runs an operation that excludes others on the box, and counts as a use of it: waits for its turn, checks that it is
 * legal, shows what is under way meanwhile. Throws `cancelled` when the signal is raised before its turn, `invalid_state`,
 * `not_found`, and what the task throws.
 */
export async function exclusively<T>(
  ctx: MachinesContext,
  boxId: string,
  operation: OperationName,
  task: (row: BoxRow) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  using _ = ctx.activity.use(boxId);
  return await underLock(
    ctx,
    boxId,
    async () => {
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
    },
    signal,
  );
}
