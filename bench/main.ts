import { parseArgs } from 'node:util';
import makeSeedHome from '../test/support/global-setup.js';
import { diskCases } from './cases/disk.js';
import { imageCases } from './cases/images.js';
import { manyBoxesCases } from './cases/many-boxes.js';
import { memoryCases } from './cases/memory.js';
import { largeMemoryCases } from './cases/memory-large.js';
import { networkCases } from './cases/network.js';
import { restCases } from './cases/rest.js';
import { restByteCases } from './cases/rest-bytes.js';
import { runtimeCases } from './cases/runtime.js';
import { snapshotCases } from './cases/snapshots.js';
import { type BenchResult, runCase } from './harness.js';

/** `npm run bench [-- --json] [--only NAME,NAME]`: a table, or JSON lines; ends with 1 when a promise is not met. */
const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, only: { type: 'string' } },
});
const wanted = values.only?.split(',');
const cases = [
  ...runtimeCases,
  ...diskCases,
  ...snapshotCases,
  ...manyBoxesCases,
  ...imageCases,
  ...memoryCases,
  ...largeMemoryCases,
  ...restCases,
  ...restByteCases,
  ...networkCases,
].filter(({ bench }) => !wanted || wanted.includes(bench.name));
const unknown = (wanted ?? []).filter((name) => !cases.some(({ bench }) => bench.name === name));
if (unknown.length > 0) {
  process.stderr.write(`no such case: ${unknown.join(', ')}\n`);
  process.exit(2);
}

await makeSeedHome();
let broken = 0;
for (const named of cases) {
  const result = await runCase(named);
  if (result.met === false) broken += 1;
  if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else process.stdout.write(`${lineOf(result)}\n`);
}
process.exitCode = broken === 0 ? 0 : 1;

function lineOf(result: BenchResult): string {
  const against =
    result.ratio === null ? '' : `  ${result.ratio}x of ${result.baseline_p50} (${result.baseline})`;
  const verdict = result.met === null ? '' : result.met ? '  met' : '  NOT MET';
  const promise = result.promise === '' ? '' : `  promise ${result.promise}`;
  return `${result.name.padEnd(24)} ${result.value_p50} ${result.unit}${against}${promise}${verdict}  n=${result.n}`;
}
