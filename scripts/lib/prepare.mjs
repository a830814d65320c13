// The steps from a fresh clone to a Cryobox that runs, in order; each does nothing when its work is done.
import { chdir } from 'node:process';
import { fileURLToPath } from 'node:url';
import { architectureNames, architectureRow } from './architectures.mjs';
import { buildGuest, buildTypeScript } from './build.mjs';
import { buildGuestFor } from './cross.mjs';
import { hasApt, install, missing, productPackages, testPackages } from './debian.mjs';
import { ensureKernel } from './kernel.mjs';
import { ensureNpmPackages } from './npm.mjs';
import { step } from './report.mjs';
import { SetupError } from './run.mjs';
import { missingForRust } from './rust.mjs';
import { buildUi } from './ui.mjs';

/** First Node release with all that is used; package.json `engines` says the same. */
const NODE_MIN = [20, 19];

/** Prepares this checkout. `forTests`: what only the tests need as well; `forPackage`: programs for other processors. */
export async function prepare({ forTests, forPackage = false }) {
  chdir(fileURLToPath(new URL('../..', import.meta.url)));
  await checkHost();
  const wanted = [...productPackages, ...(forTests ? testPackages : [])];
  const absentNow = async () => [...missing(wanted), ...(await missingForRust())];
  await step('Debian packages', async () => {
    const absent = await absentNow();
    if (absent.length === 0) return 'up to date';
    await install(absent);
    const still = await absentNow();
    if (still.length > 0) throw new SetupError(`Installed, but still not found: ${still.join(' ')}`);
    return `${absent.length} installed`;
  });
  await step('npm packages', ensureNpmPackages);
  await step('TypeScript', buildTypeScript);
  await step('Dashboard', buildUi);
  await step('Guest agent', buildGuest);
  for (const other of forPackage ? architectureNames.filter((name) => name !== process.arch) : [])
    await step(`Guest agent for ${other}`, () => buildGuestFor(other));
  await step('Guest kernel', () => ensureKernel());
}

async function checkHost() {
  if (process.platform !== 'linux' || !architectureRow()) {
    throw new SetupError(
      `Cryobox needs Linux on x86-64 or arm64, this is ${process.platform} on ${process.arch}`,
      'Use a Debian 12 machine, real or virtual.',
    );
  }
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1])) {
    throw new SetupError(
      `Node ${NODE_MIN.join('.')} or newer is needed, this is ${process.versions.node}`,
      'Install a newer Node.',
    );
  }
  const absent = [...missing(productPackages), ...(await missingForRust())];
  if (!hasApt() && absent.length > 0) {
    throw new SetupError(
      'This is not a Debian-like host: packages cannot be installed by this script',
      `Install the equivalents of these Debian packages, then run this again: ${absent.join(' ')}`,
    );
  }
}
