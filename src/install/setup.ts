import { neededPackageFile } from '../base/package-files.js';
import { startProcess } from '../base/process/index.js';

/**
 * Brings what this host lacks to run boxes: packages, through its package manager, as root or with sudo, and the guest
 * kernel. It says what it does on the standard streams of this process, and may ask for a password there. Resolves with
 * whether it could; it has said what to do where it could not.
 */
export async function setUpHost(options: { readonly signal?: AbortSignal } = {}): Promise<boolean> {
  await using child = await startProcess(process.execPath, {
    args: [neededPackageFile('scripts/prepare-host.mjs')],
    stdin: 0,
    stdout: 1,
    stderr: 2,
    signal: options.signal,
  });
  return (await child.exited).code === 0;
}
