import { readFile } from 'node:fs/promises';

/** Below this share of the host's memory what is only kept to be fast gives way. */
const leastShare = 1 / 8;

/** Whether the host has memory for what boxes can do without (proc(5), `MemAvailable`). */
export async function hasRoomInMemory(): Promise<boolean> {
  const { MemAvailable, MemTotal } = await memoryFacts();
  return MemAvailable >= MemTotal * leastShare;
}

/** The memory of the host, or of the container that this process runs in where that has less. */
export async function hostMemoryBytes(): Promise<number> {
  const { MemTotal } = await memoryFacts();
  // 0 and numbers beyond every host: there is no limit.
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return Math.min(MemTotal, limit);
}

/** Lines of /proc/meminfo, in bytes. */
async function memoryFacts(): Promise<Record<'MemTotal' | 'MemAvailable', number>> {
  const text = await readFile('/proc/meminfo', 'utf8');
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) * 1024;
  return { MemTotal: bytes('MemTotal'), MemAvailable: bytes('MemAvailable') };
}
