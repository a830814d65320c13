import type { Database } from './database.js';

const tokenSeedKey = 'e2b_token_seed';

/** The secret of the home from which tokens of sandboxes are made: `fresh`, where there was none yet. */
export async function keepTokenSeed(db: Database, fresh: string): Promise<string> {
  await db
    .insertInto('meta')
    .values({ key: tokenSeedKey, value: fresh })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const kept = db.selectFrom('meta').select('value').where('key', '=', tokenSeedKey);
  return (await kept.executeTakeFirstOrThrow()).value;
}
