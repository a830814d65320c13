import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** Waits between tries; what is left then is removed by the next engine. */
const retryMs = [200, 1_000, 5_000, 30_000, 60_000];

/**
 * Removes the directory of a machine that has ended. Where the host refuses that, for want of a descriptor, it is tried
 * again later, so that what the caller tells of is why the machine ended. Never fails.
 */
export async function removeDirectory(directory: string): Promise<void> {
  if (await isRemoved(directory)) return;
  removeLater(directory).catch(() => undefined);
}

async function removeLater(directory: string): Promise<void> {
  for (const ms of retryMs) {
    await delay(ms, undefined, { ref: false });
    if (await isRemoved(directory)) return;
  }
}

async function isRemoved(directory: string): Promise<boolean> {
  try {
    await rm(directory, { recursive: true, force: true });
    return true;
  } catch {
    return false;
  }
}
