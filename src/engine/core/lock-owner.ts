import { readFile, stat } from 'node:fs/promises';
import { ifExists } from '../../base/files.js';

/** The bytes SQLite locks (sqlite.org, "File Locking And Concurrency": PENDING_BYTE and what follows). */
const lockRange = { first: 0x4000_0000, last: 0x4000_01ff } as const;

/**
 * Process id of the engine that holds the lock file of a home, or undefined when none does. The operating system knows
 * it (proc(5), `/proc/locks`), so there is no pid file that could be stale.
 */
export async function lockOwner(path: string): Promise<number | undefined> {
  const facts = await ifExists(stat(path));
  if (!facts) return undefined;
  for (const line of (await readFile('/proc/locks', 'utf8')).split('\n')) {
    // A lock somebody waits for has an arrow in the second column.
    const match = /^\d+: POSIX +\S+ +WRITE +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) (\d+) /.exec(line);
    const [, pid, inode, first] = (match ?? []).map(Number);
    const isSqlite = first !== undefined && first >= lockRange.first && first <= lockRange.last;
    if (isSqlite && inode === facts.ino && pid) return pid;
  }
  return undefined;
}
