import { readFile } from 'node:fs/promises';
import { ifExists } from '../base/files.js';
import { errnoOf } from '../errors.js';

/** A process that cannot be mistaken for a later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from the host's boot to the process's start (proc(5), `/proc/pid/stat`, field 22). */
  readonly startTicks: number;
}

/** Identity of a live process, or undefined when there is none, or only a zombie. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await ifExists(readFile(`/proc/${pid}/stat`, 'utf8')).catch((error: unknown) => {
    if (errnoOf(error) === 'ESRCH') return undefined;
    throw error;
  });
  if (stat === undefined) return undefined;
  // The second field, the command, may hold spaces and parentheses; the last parenthesis ends it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  const startTicks = Number(fields[19]);
  return state === 'Z' || state === 'X' ? undefined : { pid, startTicks };
}

/** Whether that very process still lives. */
export async function isAlive(process: ProcessIdentity): Promise<boolean> {
  return (await identify(process.pid))?.startTicks === process.startTicks;
}

/** Kills that very process; nothing happens when it is gone. */
export async function killProcess(target: ProcessIdentity): Promise<void> {
  if (!(await isAlive(target))) return;
  try {
    process.kill(target.pid, 'SIGKILL');
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

/** Identifies this boot of the host; pids and start times mean nothing across boots. */
export async function hostBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}
