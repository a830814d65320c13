import { execa } from 'execa';
import { expect, it } from 'vitest';
import { builtEntry } from '../support/built.js';
import { nodeOf, nodesWithSqlite } from '../support/nodes.js';
import { partOf } from '../support/part.js';

it.each(partOf(nodesWithSqlite, 2))(
  'all tests of the store hold over the SQLite of Node %s',
  async (version) => {
    const node = await nodeOf(version);
    const args = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/support/store.config.ts'];
    const { exitCode, all } = await execa(node, args, {
      env: { CRYOBOX_TEST_SQLITE: 'node:sqlite', NO_COLOR: '1', FORCE_COLOR: undefined },
      reject: false,
      all: true,
      timeout: 170_000,
    });
    expect({ exitCode, all }).toMatchObject({ exitCode: 0 });
    expect(all).toMatch(/Tests\s+\d+ passed/);
  },
  500_000,
);

it.each(nodesWithSqlite)(
  'Node %s says nothing of it to users, and its other warnings stay',
  async (version) => {
    const node = await nodeOf(version);
    const store = await builtEntry('store/index.ts');
    const program = `
    const { openSqlite, sqliteDriver } = await import(${JSON.stringify(store)});
    (await openSqlite(':memory:')).close();
    console.log((await sqliteDriver()).name);
    process.emitWarning('a warning of the program about SQLite');
  `;
    const { stdout, stderr } = await execa(node, ['--input-type=module', '-e', program], { timeout: 60_000 });
    expect(stdout).toBe('node:sqlite');
    expect(stderr).not.toContain('Experimental');
    expect(stderr).toContain('a warning of the program about SQLite');
  },
  500_000,
);
