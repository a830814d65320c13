import { parseArgs } from 'node:util';
import makeSeedHome from '../support/global-setup.js';
import { soak } from './soak.js';

/** `npm run soak [-- --minutes N] [--seed N] [--outcomes]`: ends with 1 when anything was lost, leaked or wrong. */
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string' },
    outcomes: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000);
const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
await makeSeedHome();
say(`seed ${seed}`);
const report = await soak({ minutes: Number(values.minutes), seed });
if (values.outcomes) say(report.outcomes);
for (const what of ['wrong', 'lost', 'leaked'] as const) {
  for (const line of report[what]) say(`${what}: ${line}`);
}
say(
  `${report.operations} operations done, ${report.faults} faults injected, ` +
    `${report.lost.length} lost, ${report.leaked.length} leaked, ${report.wrong.length} wrong outcomes`,
);
process.exit(report.lost.length + report.leaked.length + report.wrong.length === 0 ? 0 : 1);
