import { CryoboxError, messageOf } from '../errors.js';
import { loadBetterSqlite } from './better-sqlite.js';
import { loadNodeSqlite } from './node-sqlite.js';
import type { SqliteDriver, SqliteFile, SqliteOptions } from './sqlite-driver.js';

/** One writer, but a backup or an inspection may hold the file for a moment. */
const busyTimeoutMs = 5_000;

let loaded: Promise<SqliteDriver> | undefined;

/**
 * The driver of this process: Node's own where it has one (22.13 and newer), else better-sqlite3. Throws `config_error`
 * when there is neither.
 */
export function sqliteDriver(): Promise<SqliteDriver> {
  loaded ??= loadDriver().catch((error: unknown) => {
    loaded = undefined;
    throw error;
  });
  return loaded;
}

async function loadDriver(): Promise<SqliteDriver> {
  const own = loadNodeSqlite();
  if (own) return own;
  try {
    return await loadBetterSqlite();
  } catch (error) {
    const { node } = process.versions;
    const isAbsent = messageOf(error).includes("Cannot find package 'better-sqlite3'");
    const why = isAbsent ? 'is not installed' : `does not load: ${firstLine(messageOf(error))}`;
    throw new CryoboxError(
      'config_error',
      `Node ${node} has no SQLite of its own, and better-sqlite3 ${why}`,
      {
        cause: error,
        hint: `Use Node 22.13 or newer, or run \`npm ${isAbsent ? 'install' : 'rebuild'} better-sqlite3\` (needs g++, make and python3).`,
      },
    );
  }
}

/** What it could not find is told in a list of a dozen paths. */
function firstLine(text: string): string {
  return text.split('\n')[0] ?? text;
}

/** Opens a SQLite file. Throws `database_error`, or `config_error` when there is no driver. */
export async function openSqlite(path: string, options: SqliteOptions = {}): Promise<SqliteFile> {
  const driver = await sqliteDriver();
  try {
    const file = driver.open(path, options);
    file.exec(`pragma busy_timeout = ${busyTimeoutMs}`);
    return file;
  } catch (error) {
    throw new CryoboxError('database_error', `cannot open ${path}: ${messageOf(error)}`, { cause: error });
  }
}
