import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ifExists } from '../../base/files.js';
import { findQemu, type QemuBinary } from '../../machine/index.js';
import { findKernel, guestProgramPath } from '../assets.js';
import { knownAccelerator, requestedAccelerator } from '../machines/accelerator.js';
import { tryAccelerator } from '../machines/accelerator-trial.js';
import { mayUseUffd } from '../memory/pager.js';
import { type Check, type Finding, failed, ok, warning } from './check.js';

const setupHint = 'Run `npm run setup`.';

/** What machines are made of, and the rights they need. */
export const machineChecks: readonly Check[] = [
  { name: 'qemu', look: async () => ok(describeQemu(await findQemu())) },
  { name: 'accelerator', look: checkAccelerator },
  { name: 'kernel', look: checkKernel },
  { name: 'agent', look: () => checkProgram('cryobox-agent') },
  { name: 'netguard', look: () => checkProgram('netguard.so') },
  { name: 'userfaultfd', look: checkUserfaultfd },
];

function describeQemu({ path, version }: QemuBinary): string {
  return `${version}, ${path}`;
}

async function checkAccelerator(): Promise<Finding> {
  const asked = requestedAccelerator();
  if (asked) return ok(`${asked}, because CRYOBOX_ACCELERATOR says so`);
  const { version } = await findQemu();
  const known = (await knownAccelerator(version)) ?? (await tryAccelerator());
  if (known.accelerator === 'kvm') return ok(`kvm: ${known.reason}`);
  return warning(
    `tcg, that is emulation, several times slower: ${known.reason}`,
    'For full speed give this user a /dev/kvm that works. Everything works without.',
  );
}

async function checkKernel(): Promise<Finding> {
  const { version, directory } = await findKernel();
  const parts = [join(directory, 'boot', `vmlinuz-${version}`), join(directory, 'lib/modules', version)];
  for (const path of parts) {
    if (!(await ifExists(stat(path)))) return failed(`${path} is missing`, setupHint);
  }
  return ok(version);
}

async function checkProgram(name: 'cryobox-agent' | 'netguard.so'): Promise<Finding> {
  const path = guestProgramPath(name);
  return (await ifExists(stat(path))) ? ok(path) : failed(`${path} is missing`, setupHint);
}

async function checkUserfaultfd(): Promise<Finding> {
  if (await mayUseUffd()) return ok('machines may use it');
  return warning(
    'machines may not use it: paused boxes come back by mapping their memory files instead',
    'sysctl -w vm.unprivileged_userfaultfd=1, for resuming without reading all memory first.',
  );
}
