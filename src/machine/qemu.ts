import { environmentValue } from '../base/environment.js';
import { runProcess } from '../base/process/index.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { type ArchitectureName, architectureOf, hostArchitecture } from './architectures.js';
import { firstQemuWith, qemuHas } from './qemu-versions.js';

/** The QEMU of this host. */
export interface QemuBinary {
  readonly path: string;
  /** As QEMU prints it, such as `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`. */
  readonly version: string;
}

const probeTimeoutMs = 10_000;

/**
 * Finds the QEMU of an architecture, by default this host's, on the PATH; the host's where `CRYOBOX_QEMU` points.
 * Throws `config_error` when there is none, or it is older than all that can be used (qemu-versions.ts).
 */
export async function findQemu(
  architecture: ArchitectureName = hostArchitecture().name,
): Promise<QemuBinary> {
  const isForeign = architecture !== hostArchitecture().name;
  const { qemuBinary, platform } = architectureOf(architecture);
  const path = (isForeign ? undefined : environmentValue('CRYOBOX_QEMU')) ?? qemuBinary;
  let output: string;
  try {
    const { stdout, stderr } = await runProcess(path, { args: ['--version'], timeoutMs: probeTimeoutMs });
    // What is no QEMU has no version, and says why on its standard error.
    output = stdout.toString('utf8') || stderr;
  } catch (error) {
    if (isCryoboxError(error, 'resource_exhausted')) throw error;
    throw new CryoboxError('config_error', `cannot run ${path}: ${messageOf(error)}`, {
      cause: error,
      hint: isForeign
        ? `Install it, which \`npx cryobox setup --platform linux/${platform}\` does.`
        : 'Install QEMU, which `npx cryobox setup` does, or point CRYOBOX_QEMU at one.',
    });
  }
  const version = /version (\S+(?: \([^)]*\))?)/.exec(output)?.[1];
  if (!version || !qemuHas('machines', version)) {
    const found = version ?? output.split('\n')[0];
    throw new CryoboxError(
      'config_error',
      `${path} is QEMU ${found}; ${firstQemuWith('machines')} or newer is needed`,
    );
  }
  return { path, version };
}
