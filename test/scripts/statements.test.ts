import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, it } from 'vitest';

/** Checks a tree of source files; returns what is said of it, or nothing when it passes. */
async function check(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'cryobox-statements-'));
  try {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(directory, name)), { recursive: true });
      await writeFile(join(directory, name), text);
    }
    const script = resolve('scripts/check-statements.mjs');
    const { exitCode, stderr } = await execa(process.execPath, [script], { cwd: directory, reject: false });
    expect(exitCode).toBe(stderr === '' ? 0 : 1);
    return stderr;
  } finally {
    await rm(directory, { recursive: true });
  }
}

it.each([
  ["await ctx.db\n  .selectFrom('boxes')\n  .execute();", "src/engine/a.ts:2: .selectFrom('boxes')"],
  ["tx.deleteFrom('boxes')", "src/engine/a.ts:1: tx.deleteFrom('boxes')"],
  ['await sql<number>`pragma x`.execute(db)', 'src/engine/a.ts:1: await sql<number>'],
  ["file.prepare('delete from boxes where id = ?')", "src/engine/a.ts:1: file.prepare('delete from boxes"],
])('finds a statement outside of the store: %s', async (text, line) => {
  expect(await check({ 'src/engine/a.ts': text })).toContain(line);
  expect(await check({ 'src/store/a.ts': text })).toBe('');
});

it('lets a room hand the database on', async () => {
  const text =
    "const set = await findBox(ctx.db, id);\nthrow new Error('update the image from its registry');\n";
  expect(await check({ 'src/engine/a.ts': text })).toBe('');
});
