import type { KyselyPlugin } from 'kysely';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  allBoxUses,
  countBoxes,
  type Database,
  findBoxes,
  findBoxNamed,
  findBoxWithHead,
  hasBoxToRemove,
  listBoxStamps,
  openDatabase,
} from '../../src/store/index.js';

let db: Database;

beforeAll(async () => {
  db = await openDatabase(':memory:');
});

afterAll(async () => {
  await db.destroy();
});

/** What SQLite does for each statement of a task, one line a step. */
async function planOf(task: (db: Database) => Promise<unknown>): Promise<string[]> {
  const asked: string[] = [];
  const watch: KyselyPlugin = {
    transformQuery: ({ node, queryId }) => {
      asked.push(db.getExecutor().compileQuery(node, queryId).sql);
      return node;
    },
    transformResult: async ({ result }) => result,
  };
  await task(db.withPlugin(watch));
  const plans: string[] = [];
  for (const sql of asked) {
    const { rows } = await db.executeQuery<{ detail: string }>({
      ...db.selectFrom('boxes').select('id').compile(),
      sql: `explain query plan ${sql}`,
      parameters: (sql.match(/\?/g) ?? []).map(() => null),
    });
    plans.push(...rows.map(({ detail }) => detail));
  }
  return plans;
}

const after = { id: 'box_a', created_at: 5 };

it('a page of a list is read from an index in its order, and nothing is sorted', async () => {
  for (const query of [
    { limit: 100 },
    { limit: 100, after },
    { limit: 100, status: 'running' },
    { limit: 100, status: 'running', after },
  ]) {
    const plan = await planOf((it) => listBoxStamps(it, 't', query));
    expect(plan).toHaveLength(1);
    expect(plan[0]).toContain(query.status ? 'INDEX boxes_status' : 'INDEX boxes_order');
    if ('after' in query) expect(plan[0]).toContain('(created_at,id)<(?,?)');
  }
});

it('boxes are found by what is asked of them, not among all of a tenant', async () => {
  expect(await planOf((it) => findBoxes(it, 't', ['box_a']))).toContain(
    'SEARCH boxes USING INDEX sqlite_autoindex_boxes_1 (id=?)',
  );
  expect((await planOf((it) => findBoxNamed(it, 't', 'box_a'))).at(-1)).toBe(
    'SEARCH boxes USING INDEX sqlite_autoindex_boxes_1 (id>? AND id<?)',
  );
  expect(await planOf((it) => countBoxes(it, 't', 'running'))).toEqual([
    'SEARCH boxes USING COVERING INDEX boxes_status (tenant=? AND status=?)',
  ]);
  expect(await planOf((it) => findBoxWithHead(it, 'lay_a'))).not.toContain('SCAN boxes');
  expect(await planOf((it) => hasBoxToRemove(it))).not.toContain('SCAN boxes');
});

it('only the start of an engine reads all boxes', async () => {
  expect(await planOf((it) => allBoxUses(it))).toEqual(['SCAN boxes']);
});

it('every column that refers to a row has an index, which its deletion needs', async () => {
  const tables = await db.introspection.getTables();
  const raw = async <T>(sql: string): Promise<T[]> => {
    const compiled = { ...db.selectFrom('boxes').select('id').compile(), sql, parameters: [] };
    return (await db.executeQuery<T>(compiled as never)).rows;
  };
  const few = new Set(['goldens', 'image_disks', 'templates', 'volumes', 'box_volumes']);
  for (const { name } of tables.filter((table) => !few.has(table.name))) {
    const indexes = await raw<{ name: string }>(`pragma index_list(${name})`);
    const first = new Set<string>();
    for (const index of indexes) {
      const [column] = await raw<{ name: string }>(`pragma index_info(${index.name})`);
      if (column) first.add(column.name);
    }
    for (const key of await raw<{ from: string }>(`pragma foreign_key_list(${name})`)) {
      expect([...first], `${name}.${key.from}`).toContain(key.from);
    }
  }
});
