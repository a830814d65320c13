import type { Database } from './database.js';
import { hold, release } from './holds.js';
import { insertLayers } from './layers.js';
import type { GoldenRow, LayerRow } from './schema.js';

/** The stored golden machine, if there is one. */
export async function findGolden(db: Database, key: string): Promise<GoldenRow | undefined> {
  return await db.selectFrom('goldens').selectAll().where('key', '=', key).executeTakeFirst();
}

/** All golden machines: there is one a shape, few. */
export async function listGoldens(db: Database): Promise<GoldenRow[]> {
  return await db.selectFrom('goldens').selectAll().execute();
}

/** The golden machine whose memory is that layer. */
export async function findGoldenOfMemory(db: Database, ramLayer: string): Promise<GoldenRow | undefined> {
  return await db.selectFrom('goldens').selectAll().where('ram_layer', '=', ramLayer).executeTakeFirst();
}

/** Stores a golden machine and its layers; one that another of them needs comes before it. */
export async function insertGolden(db: Database, row: GoldenRow, layers: readonly LayerRow[]): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await insertLayers(tx, layers);
    await tx.insertInto('goldens').values(row).execute();
    await hold(
      tx,
      `golden:${row.key}`,
      layers.map(({ id }) => id),
    );
  });
}

/** Deletes the golden machines that `isStale` names; what boxes need of them stays. There is one a shape: few. */
export async function deleteStaleGoldens(db: Database, isStale: (row: GoldenRow) => boolean): Promise<void> {
  for (const { key } of (await listGoldens(db)).filter(isStale)) {
    await db.transaction().execute(async (tx) => {
      await tx.deleteFrom('goldens').where('key', '=', key).execute();
      await release(tx, `golden:${key}`);
    });
  }
}

/** Golden machines whose shape no box, template or memory has, so that nobody uses them. */
export async function goldensWithoutUse(db: Database): Promise<GoldenRow[]> {
  let query = db.selectFrom('goldens').selectAll('goldens');
  for (const table of ['boxes', 'templates', 'memories'] as const) {
    query = query.where((q) =>
      q.not(
        q.exists(
          q
            .selectFrom(table)
            .select(`${table}.id`)
            .whereRef(`${table}.cpus`, '=', 'goldens.cpus')
            .whereRef(`${table}.memory_mib`, '=', 'goldens.memory_mib'),
        ),
      ),
    );
  }
  return await query.execute();
}

/** How many golden machines there are. */
export async function countGoldens(db: Database): Promise<number> {
  const { count } = await db
    .selectFrom('goldens')
    .select((q) => q.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  return Number(count);
}

/** Deletes a golden machine; its layers become garbage unless boxes or machines hold them. */
export async function deleteGolden(db: Database, key: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await tx.deleteFrom('goldens').where('key', '=', key).execute();
    await release(tx, `golden:${key}`);
  });
}
