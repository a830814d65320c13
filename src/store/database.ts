import { copyFile, lstat, open } from 'node:fs/promises';
import { Kysely, Migrator } from 'kysely';
import { ifExists, readFully } from '../base/files.js';
import { CryoboxError, errnoOf, isCryoboxError, messageOf } from '../errors.js';
import { Dialect } from './dialect.js';
import { migrations } from './migrations/index.js';
import type { Schema } from './schema.js';
import { openSqlite, sqliteDriver } from './sqlite.js';
import type { SqliteFile } from './sqlite-driver.js';

export { openSqlite, sqliteDriver };

/** The database of a home, or a transaction on it. */
export type Database = Kysely<Schema>;

/**
 * Opens the database of a home and brings its schema up to date, forward only; a copy of the file is kept beside it
 * before each change, `PATH.before-MIGRATION`. A commit survives the death of every process; one made through
 * {@link GroupCommit} also survives a power cut.
 * Throws `database_error`, or `config_error` when there is no SQLite driver.
 */
export async function openDatabase(path: string): Promise<Database> {
  const sqlite = await openSqlite(path);
  try {
    sqlite.exec('pragma journal_mode = WAL');
    // The log is synced by the commits that ask for it: see GroupCommit.
    sqlite.exec('pragma synchronous = NORMAL');
    sqlite.exec('pragma foreign_keys = ON');
  } catch (error) {
    sqlite.close();
    throw databaseFailure(error, `cannot use ${path}`);
  }
  const db = new Kysely<Schema>({ dialect: new Dialect(sqlite) });
  try {
    await migrate(db, sqlite, path);
    return db;
  } catch (error) {
    await db.destroy();
    throw databaseFailure(error, `cannot bring ${path} up to date`);
  }
}

/** What a failed change is told as: `disk_full` where that is why; anything else as it is. */
export function databaseError(error: unknown): unknown {
  if (errnoOf(error) !== 'SQLITE_FULL') return error;
  return new CryoboxError('disk_full', 'no room is left for the database', { cause: error });
}

/** The typed error for a failure of the database as a whole: `disk_full` where that is why, else `database_error`. */
export function databaseFailure(error: unknown, what: string): CryoboxError {
  const known = databaseError(error);
  if (isCryoboxError(known)) return known;
  return new CryoboxError('database_error', `${what}: ${messageOf(error)}`, { cause: error });
}

const sqliteHeader = 'SQLite format 3\0';

/**
 * Whether a file is the database of a home, of whatever release. Reads only. Throws `config_error` when there is
 * no SQLite driver.
 */
export async function isHomeDatabase(path: string): Promise<boolean> {
  if (!(await beginsWith(path, sqliteHeader))) return false;
  await sqliteDriver();
  try {
    const file = await openSqlite(path, { readOnly: true });
    try {
      const tables = file.prepare("select name from sqlite_master where type = 'table'").all([]);
      const names = (tables as { name: string }[]).map(({ name }) => name);
      return ['kysely_migration', 'boxes', 'layers', 'layer_holds'].every((name) => names.includes(name));
    } finally {
      file.close();
    }
  } catch {
    // Damaged, or no database of SQLite at all.
    return false;
  }
}

async function beginsWith(path: string, header: string): Promise<boolean> {
  const facts = await ifExists(lstat(path));
  if (!facts?.isFile()) return false;
  const file = await open(path, 'r');
  try {
    const start = Buffer.alloc(header.length);
    return start.toString('latin1', 0, await readFully(file, start, 0)) === header;
  } finally {
    await file.close();
  }
}

async function migrate(db: Database, sqlite: SqliteFile, path: string): Promise<void> {
  // Between releases a migration may come after one with a higher number, which a home has run already.
  const allowUnorderedMigrations = true;
  const provider = { getMigrations: async () => migrations };
  const migrator = new Migrator({ db, provider, allowUnorderedMigrations });
  const all = await migrator.getMigrations();
  const isNew = all.every((migration) => !migration.executedAt);
  for (const { name } of all.filter((migration) => !migration.executedAt)) {
    if (!isNew) await backUp(sqlite, path, name);
    const { error } = await migrator.migrateUp();
    if (error) {
      throw new CryoboxError('database_error', `cannot bring ${path} to ${name}: ${messageOf(error)}`, {
        cause: error,
        hint: `The database as it was lies at ${path}.before-${name}.`,
      });
    }
  }
}

/** Copies the file: everything of the log is in it after a checkpoint. */
async function backUp(sqlite: SqliteFile, path: string, name: string): Promise<void> {
  sqlite.exec('pragma wal_checkpoint(TRUNCATE)');
  await copyFile(path, `${path}.before-${name}`);
}

/** Whether an error is the violation of a uniqueness rule of the schema. */
export function isUniqueViolation(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY' || code === '23505';
}
