import { readFile } from 'node:fs/promises';

/**
 * Bytes of a machine's memory that are its own and not the golden machine's file: what the guest wrote since it was
 * restored (proc(5), `/proc/pid/smaps`, `Anonymous` of the mapping of the file `ram`).
 */
export async function privateGuestBytes(pid: number): Promise<number> {
  const smaps = await readFile(`/proc/${pid}/smaps`, 'utf8');
  const mapping = smaps
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .find((part) => /^\S+ \S+ \S+ \S+ \S+\s+.*\/ram$/m.test(part));
  const kib = /^Anonymous:\s+(\d+) kB$/m.exec(mapping ?? '')?.[1];
  if (kib === undefined) throw new Error(`process ${pid} maps no memory file`);
  return Number(kib) * 1024;
}
