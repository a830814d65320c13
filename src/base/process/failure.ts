import { statSync } from 'node:fs';
import { CryoboxError, errnoOf, messageOf, wrapHostError } from '../../errors.js';

/** The Debian package that a program comes with, for the hint of an error. */
const packages: Readonly<Record<string, string>> = {
  'apt-config': 'apt',
  'apt-get': 'apt',
  mke2fs: 'e2fsprogs',
  mmdebstrap: 'mmdebstrap',
  prlimit: 'util-linux',
  'qemu-system-aarch64': 'qemu-system-arm',
  'qemu-system-x86_64': 'qemu-system-x86',
  tar: 'tar',
  xz: 'xz-utils',
  zstd: 'zstd',
};

/** What a start was about, for the error of one that failed. */
interface FailedStart {
  readonly command: string;
  readonly cwd?: string | undefined;
  /** What to do when the program is not installed. @default names its Debian package */
  readonly installHint?: string | undefined;
}

/**
 * The error of a process that the system did not start: `config_error` when the program is missing or may not be
 * executed, `resource_exhausted` when the host or this process is at a limit (EAGAIN, EMFILE, ENFILE, ENOMEM),
 * `storage_error` for anything else.
 */
export function startFailure(error: unknown, start: FailedStart): CryoboxError {
  const { command } = start;
  const errno = errnoOf(error);
  const name = command.slice(command.lastIndexOf('/') + 1);
  // The system tells a missing program and a missing working directory by the same code.
  if ((errno === 'ENOENT' || errno === 'ENOTDIR') && start.cwd !== undefined && !isDirectory(start.cwd)) {
    return new CryoboxError('storage_error', `cannot start ${command}: ${start.cwd} is no directory`, {
      cause: error,
    });
  }
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    const from = packages[name];
    const hint =
      from === undefined ? `Install ${name}, or correct the PATH.` : `Install it: apt-get install ${from}`;
    return new CryoboxError('config_error', `the program ${command} is not installed, or not on the PATH`, {
      cause: error,
      hint: start.installHint ?? hint,
      details: { program: command, ...(from === undefined ? {} : { package: from }) },
    });
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new CryoboxError(
      'config_error',
      `the program ${command} may not be executed: ${messageOf(error)}`,
      {
        cause: error,
        hint: `Make ${command} executable for this user, and see that its file system is not mounted noexec.`,
        details: { program: command },
      },
    );
  }
  return wrapHostError(error, `cannot start ${command}`);
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
