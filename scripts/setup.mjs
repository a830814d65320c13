// From a fresh clone to a Cryobox that runs. `--for-tests` adds what only the tests need, `--for-package` the programs for
// all other processors, which the package ships. Doing it twice does nothing.
import { prepare } from './lib/prepare.mjs';
import { main } from './lib/report.mjs';
import { SetupError } from './lib/run.mjs';

await main(async () => {
  const known = ['--for-tests', '--for-package'];
  const unknown = process.argv.slice(2).filter((argument) => !known.includes(argument));
  if (unknown.length > 0) {
    throw new SetupError(`Unknown option: ${unknown.join(' ')}`, `Options: ${known.join(' ')}`);
  }
  const [forTests, forPackage] = known.map((option) => process.argv.includes(option));
  await prepare({ forTests, forPackage });
});
