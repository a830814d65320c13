import { environmentValue } from '../base/environment.js';
import { runProcess } from '../base/process/index.js';
import { CryoboxError, isCryoboxError, messageOf } from '../errors.js';
import { hostArchitecture } from './shape.js';

/** The QEMU of this host. */
export interface QemuBinary {
  readonly path: string;
  /** As QEMU prints it, such as `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`. */
  readonly version: string;
}

/** Postcopy, blockdev-reopen of a filter's child and the sandbox options are all there since. */
const oldestVersion = [7, 2] as const;

const probeTimeoutMs = 10_000;

/**
 * Finds QEMU on the PATH, or where `CRYOBOX_QEMU` points.
 * Throws `config_error` when there is none, or it is older than 7.2.
 */
export async function findQemu(): Promise<QemuBinary> {
  const path = environmentValue('CRYOBOX_QEMU') ?? hostArchitecture().qemuBinary;
  let output: string;
  try {
    const { stdout, stderr } = await runProcess(path, { args: ['--version'], timeoutMs: probeTimeoutMs });
    // What is no QEMU has no version, and says why on its standard error.
    output = stdout.toString('utf8') || stderr;
  } catch (error) {
    if (isCryoboxError(error, 'resource_exhausted')) throw error;
    throw new CryoboxError('config_error', `cannot run ${path}: ${messageOf(error)}`, {
      cause: error,
      hint: 'Install QEMU, which `npx cryobox setup` does, or point CRYOBOX_QEMU at one.',
    });
  }
  const version = /version (\S+(?: \([^)]*\))?)/.exec(output)?.[1];
  const [major = 0, minor = 0] = (version ?? '').split('.').map((part) => Number.parseInt(part, 10));
  const tooOld = major < oldestVersion[0] || (major === oldestVersion[0] && minor < oldestVersion[1]);
  if (!version || tooOld) {
    const found = version ?? output.split('\n')[0];
    throw new CryoboxError(
      'config_error',
      `${path} is QEMU ${found}; ${oldestVersion.join('.')} or newer is needed`,
    );
  }
  return { path, version };
}
