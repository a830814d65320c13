import type { Database } from './database.js';

const bootKey = 'layers_boot';

/** The boot of the host in which the files of layers were last brought to what the database says; undefined: unknown. */
export async function bootOfLayers(db: Database): Promise<string | undefined> {
  const row = await db.selectFrom('meta').select('value').where('key', '=', bootKey).executeTakeFirst();
  return row?.value;
}

/** Stores that they were in this boot. */
export async function keepBootOfLayers(db: Database, boot: string): Promise<void> {
  await db
    .insertInto('meta')
    .values({ key: bootKey, value: boot })
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ value: boot }))
    .execute();
}
