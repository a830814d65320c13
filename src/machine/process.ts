import { readdir, readFile, readlink } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ifExists } from '../base/files.js';
import { CryoboxError, errnoOf } from '../errors.js';

/** A process that cannot be mistaken for a later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from the host's boot to the process's start (proc(5), `/proc/pid/stat`, field 22). */
  readonly startTicks: number;
}

/** How often a process is looked at whose end nobody tells this one. */
const lookMs = 20;
/** How long it is tried to look at a process that is to be killed. */
const lookWaitMs = 5_000;
/** A process that was killed is gone at once, unless it waits for a device that does not answer. */
const killWaitMs = 30_000;

/** Identity of a live process, or undefined when there is none, or only a zombie. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const fields = await statFields(pid);
  if (!fields) return undefined;
  const state = fields[0];
  const threads = Number(fields[17]);
  const startTicks = Number(fields[19]);
  // A first thread that has ended before others says Z as well: its files are open as long as they live.
  const hasEnded = state === 'X' || (state === 'Z' && threads <= 1);
  return hasEnded ? undefined : { pid, startTicks };
}

/** Ticks of a second in `/proc/pid/stat` (proc(5); sysconf(_SC_CLK_TCK) is 100 on every Linux). */
const ticksPerSecond = 100;

/** Processor time of a process, all its threads, in milliseconds; undefined when there is none. */
export async function cpuTimeMs(pid: number): Promise<number | undefined> {
  const fields = await statFields(pid);
  return fields && ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}

/** Fields of `/proc/pid/stat` (proc(5)) from the third on, the state; undefined when there is no such process. */
async function statFields(pid: number): Promise<string[] | undefined> {
  const stat = await ifExists(readFile(`/proc/${pid}/stat`, 'utf8')).catch((error: unknown) => {
    if (errnoOf(error) === 'ESRCH') return undefined;
    throw error;
  });
  // The second field, the command, may hold spaces and parentheses; the last parenthesis ends it.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
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

/** Resolves when that very process has ended, all its threads included. Keeps no program alive; never rejects. */
export async function untilEnded(process: ProcessIdentity): Promise<void> {
  // Where it cannot be looked at, for want of a descriptor, it counts as alive.
  while (await isAlive(process).catch(() => true)) await delay(lookMs, undefined, { ref: false });
}

/** A descriptor that is wanting now is there again soon: an end that failed for it would leave its box between two states. */
async function killPatiently(target: ProcessIdentity): Promise<void> {
  const until = performance.now() + lookWaitMs;
  for (;;) {
    try {
      return await killProcess(target);
    } catch (error) {
      if (performance.now() > until) throw error;
    }
    await delay(lookMs);
  }
}

/**
 * Kills that very process and waits until it is gone: only then its files are nobody's. Throws `machine_failed` when it
 * does not go, and what the host refuses when it cannot be looked at for seconds.
 */
export async function endProcess(target: ProcessIdentity, ended = untilEnded(target)): Promise<void> {
  await killPatiently(target);
  const waited = new AbortController();
  const late = delay(killWaitMs, 'late' as const, { signal: waited.signal }).catch(() => undefined);
  const first = await Promise.race([ended, late]);
  waited.abort();
  if (first !== 'late') return;
  throw new CryoboxError(
    'machine_failed',
    `process ${target.pid} goes on ${killWaitMs / 1000} s after it was killed: it waits for the host's disk or memory`,
    { hint: 'Check the disk that holds the home; what the process has open stays locked until it ends.' },
  );
}

/** QEMU processes that run in a folder below `directory`, and the name of that folder, also when it is gone. */
export async function machinesBelow(
  directory: string,
): Promise<{ readonly name: string; readonly process: ProcessIdentity }[]> {
  const found: { name: string; process: ProcessIdentity }[] = [];
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    // Those of others cannot be looked at, and those that have just ended neither.
    const cwd = await readlink(join('/proc', entry, 'cwd')).catch(() => '');
    if (!cwd.startsWith(`${directory}${sep}`)) continue;
    const commandLine = await readFile(join('/proc', entry, 'cmdline'), 'utf8').catch(() => '');
    if (!commandLine.includes(machineMark)) continue;
    const process = await identify(pid);
    const name = cwd.slice(directory.length + 1).split(/[/ ]/)[0] ?? '';
    if (process) found.push({ name, process });
  }
  return found;
}

/** What the command line of every machine holds (arguments.ts). */
const machineMark = '\0-name\0cryobox\0';

/** Identifies this boot of the host; pids and start times mean nothing across boots. */
export async function hostBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}
