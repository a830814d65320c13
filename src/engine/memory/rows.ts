import { CryoboxError } from '../../errors.js';
import type { Database, MemoryRow } from '../../store/index.js';

/** The stored memory; a box that points at none is broken. */
export async function requireMemory(db: Database, id: string): Promise<MemoryRow> {
  const row = await db.selectFrom('memories').selectAll().where('id', '=', id).executeTakeFirst();
  if (row) return row;
  throw new CryoboxError('integrity', `memory ${id} is not in the database`, { details: { memory: id } });
}

/**
 * Drops memories that no box, snapshot, template or machine refers to, and what they and machines that have gone held.
 * Run before layers are collected.
 */
export async function sweepMemories(db: Database): Promise<void> {
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
    for (const [prefix, table] of [
      ['memory:', 'memories'],
      ['machine:', 'machines'],
    ] as const) {
      const rows = await tx.selectFrom(table).select('id').execute();
      const holders = rows.map(({ id }) => `${prefix}${id}`);
      await tx
        .deleteFrom('layer_holds')
        .where('holder', 'like', `${prefix}%`)
        .where('holder', 'not in', holders.length > 0 ? holders : [''])
        .execute();
    }
  });
}
