import { readFile } from 'node:fs/promises';

/** Below this share of the host's memory what is only kept to be fast gives way. */
const leastShare = 1 / 8;

/** Whether the host has memory for what boxes can do without (proc(5), `MemAvailable`). */
export async function hasRoomInMemory(): Promise<boolean> {
  const text = await readFile('/proc/meminfo', 'utf8');
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]);
  return kib('MemAvailable') >= kib('MemTotal') * leastShare;
}
