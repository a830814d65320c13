import { idFrom, isId, newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { type BoxRow, findBoxes } from '../../store/index.js';
import type { RecordContext } from './context.js';

/** Throws `invalid_argument` unless a call's name is absent or one that {@link RepeatableOptions} describes. */
function checkOperationId(operationId: string | undefined): void {
  if (operationId === undefined || isId('opn', operationId)) return;
  throw new CryoboxError(
    'invalid_argument',
    `operationId must be "opn_" and 26 characters of base32, got ${JSON.stringify(operationId.slice(0, 40))}`,
  );
}

/**
 * Runs `task` with the ids of the `count` boxes that a call makes, and with those of them that an earlier try of the same
 * call made already. Tries of one call run one after another. Throws `invalid_argument` for a bad operation id.
 */
export async function withIds<T>(
  ctx: RecordContext,
  tenant: string,
  call: { readonly operationId: string | undefined; readonly count: number },
  task: (ids: readonly string[], madeBefore: ReadonlyMap<string, BoxRow>) => Promise<T>,
): Promise<T> {
  const { operationId, count } = call;
  checkOperationId(operationId);
  const numbers = Array.from({ length: count }, (_, index) => index);
  if (operationId === undefined)
    return await task(
      numbers.map(() => newId('box')),
      new Map(),
    );
  const ids = numbers.map((index) => idFrom('box', operationId, tenant, index));
  return await ctx.boxLocks.run(operationId, async () => {
    const rows = await findBoxes(ctx.db, tenant, ids);
    return await task(ids, new Map(rows.map((row) => [row.id, row])));
  });
}

/** Runs a call that makes one box, with its id, unless an earlier try of it made the box already. Returns the box's row. */
export async function onlyOnce(
  ctx: RecordContext,
  tenant: string,
  operationId: string | undefined,
  task: (id: string) => Promise<BoxRow>,
): Promise<BoxRow> {
  return await withIds(ctx, tenant, { operationId, count: 1 }, async ([id = ''], madeBefore) => {
    return madeBefore.get(id) ?? (await task(id));
  });
}
