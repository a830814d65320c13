// One topic a file: no source file over 600 lines (CONTRIBUTING.md, "House rules").
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const LIMIT_LINES = 600;
const roots = [
  'src',
  'web',
  'test',
  'bench',
  'scripts',
  'site/lib',
  'agent/src',
  'agent/tests',
  'gateway/src',
  'gateway/tests',
];
const tooLong = [];

for (const root of roots) {
  let names = [];
  try {
    names = readdirSync(root, { recursive: true });
  } catch {
    continue;
  }
  for (const name of names) {
    if (!/\.(tsx?|mjs|rs|css)$/.test(name)) continue;
    const lines = readFileSync(join(root, name), 'utf8').split('\n').length;
    if (lines > LIMIT_LINES) tooLong.push(`${join(root, name)}: ${lines} lines`);
  }
}
if (tooLong.length > 0) {
  console.error(`Files over ${LIMIT_LINES} lines; split them by topic:\n${tooLong.join('\n')}`);
  process.exit(1);
}
