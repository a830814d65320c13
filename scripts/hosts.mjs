// `npm run test:hosts [-- NAME...]`: the product on other hosts, in root directories made with mmdebstrap; all of them
// without a name. Needs root. Roots stay in .cache/hosts/, under a name that says what they are made of.
import { join } from 'node:path';
import { hosts, makeRoot } from './lib/host-roots.mjs';
import { copyCheckout, inRoot, MINUTE_MS } from './lib/host-run.mjs';
import { main, printTable, step, stepRows } from './lib/report.mjs';
import { SetupError } from './lib/run.mjs';

/** A box's whole life, and what leans most on QEMU's version: memory that is saved, mapped, sent and brought back. */
const tests = [
  ...['whole-life', 'memory', 'memory-uffd', 'memory-fork', 'memory-archive', 'disks-running'].map(
    (name) => `test/engine/${name}.test.ts`,
  ),
  ...['test/migration', 'test/memory', 'test/guest/boot.test.ts', 'test/guest/restore.test.ts'],
];
/** What `--short` runs of it, for where minutes count. */
const shortTests = ['whole-life', 'memory', 'memory-uffd'].map((name) => `test/engine/${name}.test.ts`);

await main(async () => {
  const options = process.argv.slice(2);
  const short = options.includes('--short');
  const names = options.filter((option) => option !== '--short');
  const known = Object.keys(hosts);
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new SetupError(`No such host: ${unknown.join(' ')}`, `Hosts: ${known.join(' ')}; option: --short`);
  }
  if (process.getuid() !== 0) throw new SetupError('Only root can make another host', 'Run it with sudo.');
  for (const name of names.length > 0 ? names : known) {
    await wholeLife(name, short);
  }
  printTable(stepRows());
});

/** Set-up and tests with this checkout, its npm packages and this Node: all else is the other host's. */
async function wholeLife(name, short) {
  const root = await rooted(name, hosts[name]);
  await step(`${name}: checkout`, () => copyCheckout(root));
  const inside = (label, minutes, command) =>
    step(`${name}: ${label}`, () => inRoot(root, { directory: '/src', minutes, label: name, command }));
  await inside('set-up', 10, ['node', 'scripts/setup.mjs']);
  await inside('what doctor says', 1, ['node', 'dist/cli/main.js', 'doctor']);
  const run = ['node', 'node_modules/vitest/vitest.mjs', 'run', '--reporter=default'];
  await inside('tests', short ? 15 : 40, [...run, ...(short ? shortTests : tests)]);
}

async function rooted(name, host) {
  let root = '';
  await step(`${name}: root`, async () => {
    const made = await makeRoot(name, host, 20 * MINUTE_MS);
    root = made.path;
    return `${made.note}, ${join('.cache/hosts', made.folder)}`;
  });
  return root;
}
