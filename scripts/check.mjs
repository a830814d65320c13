// The one gate: format, lint, types, dependency rules, dead code, file sizes, SQL in the store only. Runs every part, then reports.
import { spawnSync } from 'node:child_process';
import { addMissingPackages } from './lib/npm.mjs';

const bin = (name) => `node_modules/.bin/${name}`;
const steps = [
  ['format and lint', bin('biome'), ['check', '--error-on-warnings', '.']],
  ['types of src', bin('tsc'), ['-b']],
  ['types of tests', bin('tsc'), ['-p', 'test/tsconfig.json', '--noEmit']],
  ['types of web', bin('tsc'), ['-p', 'web/tsconfig.json']],
  [
    'dependency rules',
    bin('depcruise'),
    ['src', 'web', '--config', '.dependency-cruiser.cjs', '--output-type', 'err'],
  ],
  ['dead code', bin('knip'), []],
  ['file sizes', process.execPath, ['scripts/check-sizes.mjs']],
  ['statements', process.execPath, ['scripts/check-statements.mjs']],
];

await addMissingPackages();
let failed = 0;
for (const [name, command, args] of steps) {
  const run = spawnSync(command, args, { encoding: 'utf8', timeout: 300_000 });
  const ok = run.status === 0;
  process.stdout.write(`${ok ? 'ok  ' : 'FAIL'} ${name}\n`);
  if (!ok) {
    failed += 1;
    process.stdout.write(`${run.stdout ?? ''}${run.stderr ?? ''}${run.error ?? ''}\n`);
  }
}
process.exit(failed === 0 ? 0 : 1);
