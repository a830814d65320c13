import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Engine } from '../../src/engine/index.js';
import { type Database, keepBootOfLayers, noteUnfinished, openDatabase } from '../../src/store/index.js';
import { newHome, type TestHome } from '../support/home.js';

let home: TestHome;
let heads: { disk_head: string; parent_id: string | null };

async function changed(change: (db: Database) => Promise<unknown>): Promise<void> {
  const db = await openDatabase(join(home.path, 'cryobox.db'));
  try {
    await change(db);
  } finally {
    await db.destroy();
  }
}

async function opened(): Promise<void> {
  await (await Engine.open({ home: home.path, poolSize: 0 })).close();
}

const layerPath = (id: string): string => join(home.path, 'layers', id);

beforeAll(async () => {
  home = await newHome();
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().create({ image: 'tiny', name: 'b', detach: true });
  await box.stop();
  // Its new head has had no machine yet, and what stands below it is sealed.
  await box.snapshot.create('s');
  await engine.close();
  await changed(async (db) => {
    heads = await db
      .selectFrom('boxes')
      .innerJoin('layers', 'layers.id', 'boxes.disk_head')
      .select(['boxes.disk_head', 'layers.parent_id'])
      .where('name', '=', 'b')
      .executeTakeFirstOrThrow();
    expect(await db.selectFrom('unfinished').selectAll().execute()).toEqual([]);
  });
});

afterAll(() => home[Symbol.asyncDispose]());

it('a start in the same boot of the host reads no file that nothing was to be done to', async () => {
  const path = layerPath(heads.disk_head);
  const whole = await readFile(path);
  await writeFile(path, 'lost');
  await opened();
  expect(await readFile(path, 'utf8')).toBe('lost');
  await changed((db) => noteUnfinished(db, 'layer', heads.disk_head));
  await opened();
  expect((await readFile(path)).equals(whole)).toBe(true);
  await changed(async (db) => expect(await db.selectFrom('unfinished').selectAll().execute()).toEqual([]));
});

it('a start after another boot of the host makes heads again that were lost, and seals what is not', async () => {
  const sealed = layerPath(heads.parent_id ?? '');
  const head = layerPath(heads.disk_head);
  const whole = await readFile(head);
  await writeFile(head, '');
  await chmod(sealed, 0o644);
  await changed((db) => keepBootOfLayers(db, 'an earlier one'));
  await opened();
  expect((await readFile(head)).equals(whole)).toBe(true);
  expect((await stat(sealed)).mode & 0o777).toBe(0o444);
  await using engine = await Engine.open({ home: home.path, poolSize: 0 });
  const box = await engine.runtime().get('b');
  await box?.start();
  expect((await box?.exec(['true']))?.exitCode).toBe(0);
  await engine.runtime().remove('b', { force: true });
});
