// SQL in the store only (CONTRIBUTING.md, "House rules"): other rooms hand the database on, and ask nothing of it.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What begins a statement: a call of kysely's builders, its `sql`, or the text itself. */
const builders =
  'selectFrom|selectNoFrom|insertInto|replaceInto|mergeInto|updateTable|deleteFrom|with|withRecursive|executeQuery';
const statement = new RegExp(
  [
    `\\.(${builders})\\s*\\(`,
    '\\.schema\\s*\\.',
    '\\bsql(<[^>]*>)?`',
    '[\'"`](select\\s.+\\sfrom|insert\\s+into|update\\s+\\w+\\s+set|delete\\s+from|(create|alter)\\s+table)\\b',
  ].join('|'),
  'i',
);

const found = [];
for (const name of readdirSync('src', { recursive: true })) {
  if (!name.endsWith('.ts') || name.startsWith('store/')) continue;
  const text = readFileSync(join('src', name), 'utf8');
  for (const [index, line] of text.split('\n').entries()) {
    if (statement.test(line)) found.push(`src/${name}:${index + 1}: ${line.trim()}`);
  }
}
if (found.length > 0) {
  console.error(`SQL outside of src/store; make each a function there:\n${found.join('\n')}`);
  process.exit(1);
}
