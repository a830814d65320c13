import type { Database } from './database.js';
import { noteFinished } from './unfinished.js';
import { rangeOf, valuesOf } from './values.js';

/** Ids of layers that nothing holds and no held layer needs; deletes their rows unless `dryRun`. */
export async function takeGarbage(db: Database, dryRun: boolean): Promise<string[]> {
  // Found and deleted in one transaction: nobody can begin to hold one of them between.
  return await db.transaction().execute(async (tx) => {
    const ids = await garbageLayers(tx);
    // One statement: parents and children go together, whatever their order.
    if (!dryRun && ids.length > 0) {
      await tx.deleteFrom('layers').where('id', 'in', valuesOf(ids)).execute();
      await noteFinished(tx, 'layer', ids);
    }
    return ids;
  });
}

async function garbageLayers(db: Database): Promise<string[]> {
  const rows = await db
    .withRecursive('needed', (q) =>
      q
        .selectFrom('layer_holds')
        .innerJoin('layers', 'layers.id', 'layer_holds.layer_id')
        .select(['layers.id', 'layers.parent_id'])
        .union(
          q
            .selectFrom('layers')
            .innerJoin('needed', 'layers.id', 'needed.parent_id')
            .select(['layers.id', 'layers.parent_id']),
        ),
    )
    .selectFrom('layers')
    .select('id')
    .where('id', 'not in', (q) => q.selectFrom('needed').select('needed.id'))
    .execute();
  return rows.map(({ id }) => id);
}

/** Deletes memories that no box, snapshot, template or machine refers to, and what they and machines that have gone held. */
export async function deleteUnusedMemories(db: Database): Promise<void> {
  await db.transaction().execute(async (tx) => {
    let unused = tx.deleteFrom('memories');
    for (const table of ['boxes', 'snapshots', 'templates', 'machines'] as const) {
      unused = unused.where('id', 'not in', (q) =>
        q
          .selectFrom(table)
          .select('memory_id')
          .where('memory_id', 'is not', null)
          .$castTo<{ memory_id: string }>(),
      );
    }
    await unused.execute();
    await releaseGone(tx, 'memory:', 'memories');
    await releaseGone(tx, 'machine:', 'machines');
  });
}

/** Lets go of what rows held that are gone; `prefix` and a row's id are its holder. */
async function releaseGone(tx: Database, prefix: string, table: 'memories' | 'machines'): Promise<void> {
  const { from, to } = rangeOf(prefix);
  await tx
    .deleteFrom('layer_holds')
    .where('holder', '>=', from)
    .where('holder', '<', to)
    .where('holder', 'not in', (q) =>
      q
        .selectFrom(table)
        .select((it) => it(it.val(prefix), '||', it.ref('id')).$castTo<string>().as('holder')),
    )
    .execute();
}
