import type { DoctorCheck } from '../../api/index.js';
import { defaultHome, homePaths } from '../../engine/core/home.js';
import { type Check, runCheck } from './check.js';
import { homeChecks } from './home.js';
import { hostChecks } from './host.js';
import { machineChecks } from './machine.js';

/**
 * Checks everything Cryobox needs of this host, one line each; a check that fails does not stop the others. An
 * accelerator that was not tried since the host's boot is tried now, by really booting a machine.
 */
export async function runDoctor(options: { readonly home?: string } = {}): Promise<DoctorCheck[]> {
  const paths = homePaths(options.home ?? defaultHome());
  const checks: readonly Check[] = [...hostChecks, ...machineChecks, ...homeChecks(paths)];
  return await Promise.all(checks.map(runCheck));
}
