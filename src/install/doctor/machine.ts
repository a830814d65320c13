import { stat } from 'node:fs/promises';
import { ifExists } from '../../base/files.js';
import { missingFileHint } from '../../base/package-files.js';
import { knownAccelerator, requestedAccelerator } from '../../engine/machines/accelerator.js';
import { tryAccelerator } from '../../engine/machines/accelerator-trial.js';
import { findKernel, guestProgramPath } from '../../engine/machines/assets.js';
import { mayUseUffd } from '../../engine/machines/pager.js';
import { readKernel } from '../../guest/index.js';
import { findQemu, type QemuBinary } from '../../machine/index.js';
import { type Check, type Finding, failed, ok, warning } from './check.js';

/** What machines are made of, and the rights they need. */
export const machineChecks: readonly Check[] = [
  { name: 'qemu', look: async () => ok(describeQemu(await findQemu())) },
  { name: 'accelerator', look: checkAccelerator },
  { name: 'kernel', look: checkKernel },
  { name: 'agent', look: () => checkProgram('cryobox-agent') },
  { name: 'netguard', look: () => checkProgram('netguard.so') },
  { name: 'gateway', look: () => checkProgram('cryobox-gateway') },
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

/** Reads what a machine would boot with, so that a driver that is missing or cannot be unpacked is named. */
async function checkKernel(): Promise<Finding> {
  const { directory } = await findKernel();
  const { version, modules } = await readKernel(directory);
  return ok(`${version}, ${modules.length} modules`);
}

async function checkProgram(name: Parameters<typeof guestProgramPath>[0]): Promise<Finding> {
  const path = guestProgramPath(name);
  return (await ifExists(stat(path))) ? ok(path) : failed(`${path} is missing`, missingFileHint());
}

async function checkUserfaultfd(): Promise<Finding> {
  if (await mayUseUffd()) return ok('machines may use it');
  return warning(
    'machines may not use it: paused boxes come back by mapping their memory files instead',
    'sysctl -w vm.unprivileged_userfaultfd=1, for resuming without reading all memory first.',
  );
}
