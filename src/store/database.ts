import { copyFile } from 'node:fs/promises';
import type SqliteDatabase from 'better-sqlite3';
import {
  type DatabaseConnection,
  type Driver,
  Kysely,
  Migrator,
  SqliteDialect,
  type SqliteDialectConfig,
  SqliteDriver,
} from 'kysely';
import { CryoboxError, errnoOf, messageOf } from '../errors.js';
import { migrations } from './migrations/index.js';
import type { Schema } from './schema.js';

/** The database of a home, or a transaction on it. */
export type Database = Kysely<Schema>;

/** One writer, but a backup or an inspection may hold the file for a moment. */
const busyTimeoutMs = 5_000;

/**
 * Opens the database of a home and brings its schema up to date, forward only; a copy of the file is kept beside it
 * before each change, `PATH.before-MIGRATION`. A commit survives the death of every process; one made through
 * {@link GroupCommit} also survives a power cut.
 * Throws `database_error`, or `config_error` when the SQLite driver cannot be loaded.
 */
export async function openDatabase(path: string): Promise<Database> {
  const sqlite = await openSqlite(path);
  sqlite.pragma('journal_mode = WAL');
  // The log is synced by the commits that ask for it: see GroupCommit.
  sqlite.pragma('synchronous = NORMAL');
  sqlite.pragma('foreign_keys = ON');
  const db = new Kysely<Schema>({ dialect: new Dialect({ database: sqlite }) });
  try {
    await migrate(db, sqlite, path);
    return db;
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

/** Statements kept ready; the engine has about a hundred, and those with lists of ids vary in length. */
const maxStatements = 300;

/**
 * What takes effect when it is run. A pragma may do so when it is prepared (SQLite, "PRAGMA Statements"): one kept
 * ready would change nothing the second time.
 */
const isKept = (sql: string): boolean =>
  /^(select|insert|update|delete|savepoint|release|begin|commit)\b/i.test(sql);

/** Keeps statements ready by their text: to prepare one takes as long as to run it. */
function preparing(database: SqliteDatabase.Database): (sql: string) => SqliteDatabase.Statement {
  const ready = new Map<string, SqliteDatabase.Statement>();
  return (sql) => {
    if (!isKept(sql)) return database.prepare(sql);
    const known = ready.get(sql);
    ready.delete(sql);
    const statement = known ?? database.prepare(sql);
    ready.set(sql, statement);
    if (ready.size > maxStatements) {
      for (const oldest of ready.keys()) {
        ready.delete(oldest);
        break;
      }
    }
    return statement;
  };
}

/** SQLite rolls a transaction back by itself when the disk is full: that is not done twice. */
class Dialect extends SqliteDialect {
  readonly #config: SqliteDialectConfig & { readonly database: SqliteDatabase.Database };

  constructor(config: SqliteDialectConfig & { readonly database: SqliteDatabase.Database }) {
    super(config);
    this.#config = config;
  }

  override createDriver(): Driver {
    const { database } = this.#config;
    const prepare = preparing(database);
    return new (class extends SqliteDriver {
      override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
        if (database.inTransaction) await super.rollbackTransaction(connection);
      }
    })({ database: { prepare, close: () => database.close() } });
  }
}

/** What a failed change is told as: `disk_full` where that is why; anything else as it is. */
export function databaseError(error: unknown): unknown {
  if (errnoOf(error) !== 'SQLITE_FULL') return error;
  return new CryoboxError('disk_full', 'no room is left for the database', { cause: error });
}

/** Opens a SQLite file. Throws `database_error`, or `config_error` when the driver cannot be loaded. */
export async function openSqlite(path: string): Promise<SqliteDatabase.Database> {
  const driver = await import('better-sqlite3').catch((error: unknown) => {
    throw new CryoboxError('config_error', `cannot load the SQLite driver: ${messageOf(error)}`, {
      cause: error,
      hint: 'Run `npm rebuild better-sqlite3`; on Debian it needs build-essential and python3.',
    });
  });
  try {
    return new driver.default(path, { timeout: busyTimeoutMs });
  } catch (error) {
    throw new CryoboxError('database_error', `cannot open ${path}: ${messageOf(error)}`, { cause: error });
  }
}

async function migrate(db: Database, sqlite: SqliteDatabase.Database, path: string): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } });
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
async function backUp(sqlite: SqliteDatabase.Database, path: string, name: string): Promise<void> {
  sqlite.pragma('wal_checkpoint(TRUNCATE)');
  await copyFile(path, `${path}.before-${name}`);
}

/** Whether an error is the violation of a uniqueness rule of the schema. */
export function isUniqueViolation(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY' || code === '23505';
}
