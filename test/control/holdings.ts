import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import { withDatabase } from '../engine/disk-files.js';

/** What a home and its engine hold: two of them are equal where nothing was leaked between. */
export interface Holdings {
  /** Command lines of processes that work in the home, the engine left out. */
  readonly processes: readonly string[];
  /** How many descriptors the engine has of each kind. */
  readonly descriptors: Readonly<Record<string, number>>;
  /** Files of the home with the bytes they take on the disk. */
  readonly files: Readonly<Record<string, number>>;
  /** How many rows each table has. */
  readonly rows: Readonly<Record<string, number>>;
}

/** Files that the engine keeps for itself, and whose sizes say nothing of what it holds. */
const own = /^(cryobox\.db.*|cryobox\.json|engine\.(log|lock|sock).*)$/;
/** Rows that stay on purpose: sums, what the home is, and answers kept for repeated requests. */
const kept = new Set(['counters', 'meta', 'idempotency_keys', 'kysely_migration', 'kysely_migration_lock']);

/** Looks at what there is now. `enginePid`: whose descriptors are counted. */
export async function holdingsOf(home: string, enginePid: number): Promise<Holdings> {
  return {
    processes: await processesOf(home, enginePid),
    descriptors: await descriptorsOf(enginePid),
    files: await filesBelow(home),
    rows: await rowsOf(home),
  };
}

/** What of `now` was not there before, in words; empty where nothing was leaked. */
export function leaksOf(before: Holdings, now: Holdings): string[] {
  const leaks = now.processes
    .filter((it) => !before.processes.includes(it))
    .map((it) => `process ${it.slice(0, 200)}`);
  for (const what of ['descriptors', 'files', 'rows'] as const) {
    for (const [name, value] of Object.entries(now[what])) {
      const had = before[what][name];
      if (value > (had ?? (what === 'files' ? -1 : 0))) {
        leaks.push(`${what} ${name}: ${value}, before ${had ?? 'none'}`);
      }
    }
  }
  return leaks;
}

/** What ends by itself has this long to do so on a busy host. */
const settleMs = 30_000;
const lookMs = 250;

/** The leaks that are still there when everything that was ending has had its time. */
export async function lastingLeaks(before: Holdings, home: string, enginePid: number): Promise<string[]> {
  const until = performance.now() + settleMs;
  for (;;) {
    const leaks = leaksOf(before, await holdingsOf(home, enginePid));
    if (leaks.length === 0 || performance.now() > until) return leaks;
    await delay(lookMs);
  }
}

/** Processes that stand in the home, or have one of its files as an argument or open. */
async function processesOf(home: string, enginePid: number): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === enginePid || pid === process.pid) continue;
    const cwd = await readlink(join('/proc', entry, 'cwd')).catch(() => '');
    const line = await readFile(join('/proc', entry, 'cmdline'), 'utf8').catch(() => '');
    const output = await readlink(join('/proc', entry, 'fd', '1')).catch(() => '');
    if (!line || ![cwd, output].some((path) => path.startsWith(home))) continue;
    found.push(`${pid} ${line.replaceAll('\0', ' ')}`);
  }
  return found;
}

async function descriptorsOf(pid: number): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const directory = `/proc/${pid}/fd`;
  for (const name of await readdir(directory)) {
    const target = await readlink(join(directory, name)).catch(() => undefined);
    // Threads of the engine open and close eventfds and epolls of their own; what it leaks are files, sockets, pipes.
    if (target === undefined || target.startsWith('anon_inode:') || target === directory) continue;
    const kind = target.replace(/:\[\d+\]$/, '').replace(/\/(lay|mach|box|scr)_\w+/g, '/$1');
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

async function filesBelow(home: string, below = ''): Promise<Record<string, number>> {
  const files: Record<string, number> = {};
  for (const entry of await readdir(join(home, below), { withFileTypes: true })) {
    const path = join(below, entry.name);
    if (below === '' && own.test(entry.name)) continue;
    const facts = await lstat(join(home, path)).catch(() => undefined);
    if (!facts) continue;
    if (entry.isDirectory()) Object.assign(files, await filesBelow(home, path).catch(() => ({})));
    files[path] = entry.isDirectory() ? 0 : facts.blocks * 512;
  }
  return files;
}

async function rowsOf(home: string): Promise<Record<string, number>> {
  return await withDatabase(home, async (db) => {
    const counts: Record<string, number> = {};
    for (const { name } of await db.introspection.getTables()) {
      if (kept.has(name)) continue;
      const answer = await sql<{ n: number }>`select count(*) as n from ${sql.table(name)}`.execute(db);
      counts[name] = answer.rows[0]?.n ?? 0;
    }
    return counts;
  });
}
