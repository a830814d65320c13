import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  type Database,
  GroupCommit,
  isHomeDatabase,
  isUniqueViolation,
  openDatabase,
  openSqlite,
  sqliteDriver,
} from '../../src/store/index.js';

let directory: string;
let path: string;
let db: Database;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cryobox-store-'));
  path = join(directory, 'cryobox.db');
  db = await openDatabase(path);
});

afterEach(async () => {
  await db.destroy();
  await rm(directory, { recursive: true });
});

const insert = (on: Database, name: string, value: number) =>
  on.insertInto('counters').values({ name, value }).executeTakeFirstOrThrow();
const names = async () =>
  (await db.selectFrom('counters').select('name').orderBy('name').execute()).map((it) => it.name);

it('is the driver that this Node should have', async () => {
  const own = process.getBuiltinModule('node:sqlite') === undefined ? 'better-sqlite3' : 'node:sqlite';
  expect((await sqliteDriver()).name).toBe(process.env.CRYOBOX_TEST_SQLITE ?? own);
});

it('tells how many rows a change touched, and gives those it returns', async () => {
  await insert(db, 'a', 1);
  await insert(db, 'b', 2);
  const updated = await db
    .updateTable('counters')
    .set({ value: 5 })
    .where('value', '<', 9)
    .executeTakeFirst();
  expect(updated.numUpdatedRows).toBe(2n);
  const returned = await db
    .deleteFrom('counters')
    .where('name', '=', 'a')
    .returning(['name', 'value'])
    .execute();
  expect(returned).toEqual([{ name: 'a', value: 5 }]);
  const { rows } = await sql`with x(n) as (select 1 union select 2) select n from x`.execute(db);
  expect(rows).toEqual([{ n: 1 }, { n: 2 }]);
  expect(await names()).toEqual(['b']);
});

it('knows what broke a rule of uniqueness, and what broke another', async () => {
  await insert(db, 'a', 1);
  const twice = await insert(db, 'a', 2).catch((error: unknown) => error);
  expect(isUniqueViolation(twice)).toBe(true);
  const hold = { layer_id: 'lay_none', holder: 'box:none' };
  const orphan = await db
    .insertInto('layer_holds')
    .values(hold)
    .execute()
    .catch((error: unknown) => error);
  expect(orphan).toMatchObject({ code: expect.stringMatching(/^SQLITE_CONSTRAINT/) });
  expect(isUniqueViolation(orphan)).toBe(false);
});

it('a full disk ends a transaction whole, as disk_full, and the next goes on', async () => {
  const { rows } = await sql<{ page_count: number }>`pragma page_count`.execute(db);
  const pages = rows[0]?.page_count ?? 0;
  await sql`pragma max_page_count = ${sql.lit(pages + 2)}`.execute(db);
  const commits = new GroupCommit(db);
  const both = await Promise.allSettled([
    commits.run((tx) => insert(tx, 'small', 1)),
    commits.run((tx) => insert(tx, 'x'.repeat(100_000), 2)),
  ]);
  expect(both.map((it) => it.status === 'rejected' && it.reason.code)).toEqual(['disk_full', 'disk_full']);
  const alone = db.transaction().execute((tx) => insert(tx, 'y'.repeat(100_000), 3));
  await expect(alone).rejects.toMatchObject({ code: 'SQLITE_FULL' });
  await sql`pragma max_page_count = 1000000`.execute(db);
  await commits.run((tx) => insert(tx, 'after', 4));
  expect(await names()).toEqual(['after']);
});

it('a transaction that fails leaves nothing, and is over', async () => {
  const failed = db.transaction().execute(async (tx) => {
    await insert(tx, 'a', 1);
    throw new Error('no');
  });
  await expect(failed).rejects.toThrow('no');
  const file = await openSqlite(join(directory, 'other.db'));
  try {
    expect(file.inTransaction).toBe(false);
    file.exec('begin');
    expect(file.inTransaction).toBe(true);
    file.exec('rollback');
    expect(file.inTransaction).toBe(false);
  } finally {
    file.close();
  }
  await insert(db, 'b', 2);
  expect(await names()).toEqual(['b']);
});

it('says that another has the file by name, and changes nothing of a file that is opened to be read', async () => {
  const other = join(directory, 'other.db');
  const first = await openSqlite(other);
  const second = await openSqlite(other);
  first.exec('create table t (a)');
  first.exec('begin exclusive');
  second.exec('pragma busy_timeout = 0');
  expect(codeOf(() => second.exec('begin exclusive'))).toBe('SQLITE_BUSY');
  first.exec('commit');
  const reader = await openSqlite(other, { readOnly: true });
  expect(codeOf(() => reader.exec('insert into t values (1)'))).toMatch(/^SQLITE_/);
  for (const file of [first, second, reader]) file.close();
  await expect(openSqlite(join(directory, 'absent.db'), { readOnly: true })).rejects.toMatchObject({
    code: 'database_error',
  });
});

it('tells the database of a home from what only looks like one', async () => {
  expect(await isHomeDatabase(path)).toBe(true);
  const damaged = join(directory, 'damaged.db');
  await writeFile(damaged, `SQLite format 3\0${'no'.repeat(4000)}`);
  expect(await isHomeDatabase(damaged)).toBe(false);
  const foreign = join(directory, 'foreign.db');
  const file = await openSqlite(foreign);
  file.exec('create table boxes (id)');
  file.close();
  expect(await isHomeDatabase(foreign)).toBe(false);
  expect(await isHomeDatabase(join(directory, 'absent'))).toBe(false);
});

function codeOf(task: () => void): unknown {
  try {
    task();
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
  return undefined;
}
