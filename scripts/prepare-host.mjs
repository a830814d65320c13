// What `cryobox setup` does on a host: its packages and the guest kernel. Doing it twice does nothing. The name of another
// processor, such as `arm64`: only what emulated machines of it need.
import { architectureNames, architectureRow } from './lib/architectures.mjs';
import { ensureHostPackages } from './lib/host-packages.mjs';
import { ensureKernel } from './lib/kernel.mjs';
import { main, step } from './lib/report.mjs';

/** The kernel needs no root, so that it can be fetched when it is first needed. */
const kernelOnly = process.argv.includes('--kernel-only');
const architecture = architectureNames.find((name) => process.argv.includes(name)) ?? process.arch;

await main(async () => {
  const foreign = architecture === process.arch ? undefined : architectureRow(architecture).qemu;
  if (!kernelOnly) await step('Host packages', () => ensureHostPackages(foreign && [foreign]));
  await step('Guest kernel', () => ensureKernel(architecture));
});
