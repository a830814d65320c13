import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Limits the open files of a process that runs; of the processes it starts too. */
export async function limitOpenFiles(pid: number, files: number): Promise<void> {
  await promisify(execFile)('prlimit', ['--pid', String(pid), `--nofile=${files}:`]);
}

/** The lowest descriptor that a process has free: below its limit it may open files from there on. */
export async function lowestFreeDescriptorOf(pid: number): Promise<number> {
  const taken = new Set((await readdir(`/proc/${pid}/fd`)).map(Number));
  let free = 0;
  while (taken.has(free)) free += 1;
  return free;
}

/** A group of processes that may only have so many threads. */
export interface ProcessGroup extends AsyncDisposable {
  /** At most as many as there are now. */
  close(): Promise<void>;
  /** As many as they like. */
  open(): Promise<void>;
}

/** The cgroup controller of numbers of processes, whose files are the same in both versions (cgroups(7)). */
const roots = ['/sys/fs/cgroup/pids', '/sys/fs/cgroup'] as const;

/** Puts a process, and what it starts from now on, into a group of its own. */
export async function groupOf(pid: number): Promise<ProcessGroup> {
  for (const root of roots) {
    const path = join(root, `cryobox-test-${pid}`);
    const at = (name: string): string => join(path, name);
    try {
      await mkdir(path);
      await writeFile(at('cgroup.procs'), String(pid));
      await readFile(at('pids.current'));
    } catch {
      continue;
    }
    return {
      close: async () => writeFile(at('pids.max'), await readFile(at('pids.current'))),
      open: () => writeFile(at('pids.max'), 'max'),
      [Symbol.asyncDispose]: async () => {
        for (const member of (await readFile(at('cgroup.procs'), 'utf8')).split('\n').filter(Boolean)) {
          // It may have ended meanwhile.
          await writeFile(join(root, 'cgroup.procs'), member).catch(() => undefined);
        }
        await rmdir(path);
      },
    };
  }
  throw new Error('this host has no cgroup controller for processes');
}
