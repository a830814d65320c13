import { join, resolve } from 'node:path';
import { execa } from 'execa';

/** The first time about 150 MB come from Debian and the agent is compiled. */
export const arm64PreparationMs = 600_000;

/**
 * Brings what boxes of arm64 need here: QEMU, Debian's kernel, and the agent, built for it. Returns the path of a static
 * busybox for arm64.
 */
export async function prepareArm64(): Promise<string> {
  const busybox = resolve('.cache/busybox-arm64');
  await execa(process.execPath, ['scripts/cross.mjs', 'arm64', '--unpack', 'busybox-static', busybox], {
    timeout: arm64PreparationMs,
    stdin: 'ignore',
  });
  return join(busybox, 'bin/busybox');
}
