import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { expect, it } from 'vitest';
import { type Database, GroupCommit, openDatabase } from '../../src/store/index.js';

/** What `synchronous` is: 2 is FULL, 1 is NORMAL. */
async function synchronous(db: Database): Promise<number | undefined> {
  const { rows } = await sql<{ synchronous: number }>`pragma synchronous`.execute(db);
  return rows[0]?.synchronous;
}

it('syncs each shared commit and no other, though statements are kept ready', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-store-'));
  const db = await openDatabase(join(directory, 'db'));
  try {
    const commits = new GroupCommit(db);
    for (const value of [1, 2, 3]) {
      const inside = await commits.run(async (tx) => {
        await tx
          .insertInto('counters')
          .values({ name: `n${value}`, value })
          .execute();
        return await synchronous(tx);
      });
      expect([inside, await synchronous(db)]).toEqual([2, 1]);
    }
    const query = db.selectFrom('counters').select('value').orderBy('value');
    expect(await query.execute()).toEqual([{ value: 1 }, { value: 2 }, { value: 3 }]);
    await db.deleteFrom('counters').where('value', '=', 2).execute();
    expect(await query.execute()).toEqual([{ value: 1 }, { value: 3 }]);
  } finally {
    await db.destroy();
    await rm(directory, { recursive: true });
  }
});
