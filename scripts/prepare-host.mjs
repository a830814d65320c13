// What `cryobox setup` does on a host: its packages and the guest kernel. Doing it twice does nothing.
import { ensureHostPackages } from './lib/host-packages.mjs';
import { ensureKernel } from './lib/kernel.mjs';
import { main, step } from './lib/report.mjs';

/** The kernel needs no root, so that it can be fetched when it is first needed. */
const kernelOnly = process.argv.includes('--kernel-only');

await main(async () => {
  if (!kernelOnly) await step('Host packages', ensureHostPackages);
  await step('Guest kernel', ensureKernel);
});
