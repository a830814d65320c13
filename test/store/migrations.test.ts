import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { expect, it } from 'vitest';
import { openDatabase, openSqlite } from '../../src/store/index.js';
import { migrations } from '../../src/store/migrations/index.js';

const fixtures = fileURLToPath(new URL('fixtures/', import.meta.url));

async function inDirectory(task: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-store-'));
  try {
    await task(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** A database as an earlier version left it. */
async function oldDatabase(directory: string, fixture: string): Promise<string> {
  const path = join(directory, 'cryobox.db');
  const file = await openSqlite(path);
  file.exec('pragma foreign_keys = OFF');
  file.exec(await readFile(join(fixtures, fixture), 'utf8'));
  file.close();
  return path;
}

async function schemaOf(path: string): Promise<string[]> {
  const file = await openSqlite(path);
  const tables = file.prepare("select name from sqlite_master where type = 'table' order by name").all([]);
  const columns = (tables as { name: string }[]).map(({ name }) => {
    const facts = file.prepare(`pragma table_info(${name})`).all([]) as {
      name: string;
      type: string;
      notnull: number;
    }[];
    return `${name}: ${facts.map((it) => `${it.name} ${it.type} ${it.notnull}`).join(', ')}`;
  });
  file.close();
  return columns;
}

it('brings a database of the first schema to the last, with a copy before each step', async () => {
  await inDirectory(async (directory) => {
    const path = await oldDatabase(directory, '001-boxes.sql');
    const before = await schemaOf(path);
    const db = await openDatabase(path);
    try {
      const box = await db.selectFrom('boxes').selectAll().executeTakeFirstOrThrow();
      expect(box).toMatchObject({ id: 'box_old', name: 'old', disk_head: 'lay_dhead', snapshot_id: null });
      expect(await db.selectFrom('layers').select('id').orderBy('id').execute()).toHaveLength(4);
      expect(await db.selectFrom('layer_holds').selectAll().execute()).toHaveLength(4);
      expect(await db.selectFrom('snapshots').selectAll().execute()).toEqual([]);
      const { rows } = await sql<{ foreign_keys: number }>`pragma foreign_keys`.execute(db);
      expect(rows).toEqual([{ foreign_keys: 1 }]);
      expect((await sql`pragma foreign_key_check`.execute(db)).rows).toEqual([]);
    } finally {
      await db.destroy();
    }
    const later = Object.keys(migrations).slice(1);
    const copies = (await readdir(directory)).filter((name) => name.includes('.before-'));
    expect(copies.sort()).toEqual(later.map((name) => `cryobox.db.before-${name}`));
    expect(await schemaOf(join(directory, `cryobox.db.before-${later[0]}`))).toEqual(before);
  });
});

it('gives an old database the schema that a new one has, and does nothing the second time', async () => {
  await inDirectory(async (directory) => {
    const old = await oldDatabase(directory, '001-boxes.sql');
    await (await openDatabase(old)).destroy();
    const fresh = join(directory, 'fresh.db');
    await (await openDatabase(fresh)).destroy();
    expect(await schemaOf(old)).toEqual(await schemaOf(fresh));
    const files = await readdir(directory);
    await (await openDatabase(old)).destroy();
    expect(await readdir(directory)).toEqual(files);
    expect(files.filter((name) => name.startsWith('fresh.db.before'))).toEqual([]);
  });
});

it('runs one that came after those with a higher number', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'cryobox.db');
    await (await openDatabase(path)).destroy();
    const whole = await schemaOf(path);
    const file = await openSqlite(path);
    file.exec("drop table public_boxes; delete from kysely_migration where name = '024-inbound'");
    file.close();
    await (await openDatabase(path)).destroy();
    expect(await schemaOf(path)).toEqual(whole);
  });
});
