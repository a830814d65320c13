import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { openSqlite } from '../../src/store/sqlite.js';
import { checkWhole } from '../crash/crash.js';
import { newHome } from '../support/home.js';
import { withDatabase } from './disk-files.js';
import { failureOf } from './support.js';

/** How many bytes the database says that the heads of the only box have. */
async function headBytes(home: string): Promise<number[]> {
  return await withDatabase(home, async (db) => {
    const box = await db.selectFrom('boxes').selectAll().executeTakeFirstOrThrow();
    const heads = await db
      .selectFrom('layers')
      .selectAll()
      .where('id', 'in', [box.disk_head, box.guest_head]);
    return (await heads.execute()).map(({ size_bytes }) => size_bytes).sort();
  });
}

it('records nothing of a start whose record is refused', async () => {
  await using home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const runtime = engine.runtime();
  const box = await runtime.create({ image: 'tiny', name: 'b', detach: true });
  await box.stop();
  // New heads, which no machine has written.
  await box.snapshot.create('s');
  const before = await headBytes(home.path);
  const other = await openSqlite(join(home.path, 'cryobox.db'));
  try {
    other.exec(
      "create trigger no_run before update on boxes when new.status = 'running' begin select raise(abort, 'refused here'); end",
    );
    expect(await failureOf(box.start())).toMatchObject({ code: 'machine_failed' });
  } finally {
    other.exec('drop trigger no_run');
    other.close();
  }
  expect(await headBytes(home.path)).toEqual(before);
  expect((await box.info()).status).toBe('stopped');
  await checkWhole(home.path, runtime);
  await box.start();
  expect((await box.exec(['true'])).exitCode).toBe(0);
  await box.remove({ force: true });
});
