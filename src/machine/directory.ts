import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** Directories of machines that this process starts, has, or is ending. */
const inUse = new Set<string>();

/** Says that a machine of this process is, or is about to be, in a directory. */
export function takeDirectory(directory: string): void {
  inUse.add(directory);
}

/** Says that no machine of this process is in a directory any more. */
export function letGoOfDirectory(directory: string): void {
  inUse.delete(directory);
}

/** Whether a machine of this process is in a directory: what is there is in order, whatever the database says. */
export function isDirectoryInUse(directory: string): boolean {
  return inUse.has(directory);
}

/** Waits between tries; what is left then is garbage, which is collected. */
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
