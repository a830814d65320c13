import { neededPackageFile } from '../base/package-files.js';
import { startProcess } from '../base/process/index.js';
import { parsePlatform } from '../formats/oci/index.js';
import { architectureOfPlatform } from '../machine/index.js';

/**
 * Brings what this host lacks to run boxes: packages, through its package manager, as root or with sudo, and the guest
 * kernel. It says what it does on the standard streams of this process, and may ask for a password there. Resolves with
 * whether it could; it has said what to do where it could not. With `platform`, such as `linux/arm64`: what emulated boxes of
 * it need. Throws `invalid_argument`, `unsupported` for a platform that machines cannot have.
 */
export async function setUpHost({
  platform,
  signal,
}: {
  readonly platform?: string;
  readonly signal?: AbortSignal;
} = {}): Promise<boolean> {
  const architecture = platform === undefined ? [] : [architectureOfText(platform)];
  await using child = await startProcess(process.execPath, {
    args: [neededPackageFile('scripts/prepare-host.mjs'), ...architecture],
    stdin: 0,
    stdout: 1,
    stderr: 2,
    signal,
  });
  return (await child.exited).code === 0;
}

function architectureOfText(platform: string): string {
  return architectureOfPlatform(parsePlatform(platform).architecture).name;
}
