import type { SqliteDriver, SqliteFile, SqliteStatement } from './sqlite-driver.js';

/** What is used of `node:sqlite` (nodejs.org/api/sqlite.html); what is optional came with 22.16. */
interface NodeSqlite {
  readonly DatabaseSync: new (path: string, options: { readonly readOnly: boolean }) => NodeDatabase;
}

interface NodeDatabase {
  readonly isTransaction?: boolean;
  exec(sql: string): void;
  prepare(sql: string): NodeStatement;
  close(): void;
}

interface NodeStatement {
  columns?(): readonly unknown[];
  all(...parameters: readonly unknown[]): unknown[];
  run(...parameters: readonly unknown[]): ReturnType<SqliteStatement['run']>;
  iterate(...parameters: readonly unknown[]): IterableIterator<unknown>;
}

/** The driver that is part of Node, or undefined where this Node has none. */
export function loadNodeSqlite(): SqliteDriver | undefined {
  const sqlite = withoutWarningOfSqlite(() => process.getBuiltinModule('node:sqlite')) as
    | NodeSqlite
    | undefined;
  if (!sqlite) return undefined;
  return {
    name: 'node:sqlite',
    open: (path, { readOnly = false }) => wrap(named(() => new sqlite.DatabaseSync(path, { readOnly }))),
  };
}

/** Node tells everybody who loads it that it is experimental: that is for us to know, not for users. */
function withoutWarningOfSqlite<T>(load: () => T): T {
  const { emitWarning } = process;
  process.emitWarning = (warning: string | Error, ...rest: unknown[]): void => {
    if (String(warning).includes('SQLite')) return;
    Reflect.apply(emitWarning, process, [warning, ...rest]);
  };
  try {
    return load();
  } finally {
    process.emitWarning = emitWarning;
  }
}

function wrap(database: NodeDatabase): SqliteFile {
  return {
    get inTransaction() {
      return database.isTransaction ?? refusesToBegin(database);
    },
    exec: (sql) => named(() => database.exec(sql)),
    prepare: (sql) => {
      const statement = named(() => database.prepare(sql));
      return {
        reader: statement.columns ? statement.columns().length > 0 : givesRows.test(sql),
        all: (parameters) => named(() => statement.all(...parameters)),
        run: (parameters) => named(() => statement.run(...parameters)),
        iterate: (parameters) => named(() => statement.iterate(...parameters)),
      };
    },
    close: () => database.close(),
  };
}

/** The statements that give rows, for a Node that cannot tell. */
const givesRows =
  /^\s*(select|pragma|explain|values)\b|\breturning\b|^\s*with\b(?![\s\S]*\b(insert|update|delete)\b)/i;

/** A second transaction inside of one is the only thing that a deferred `begin` refuses. */
function refusesToBegin(database: NodeDatabase): boolean {
  try {
    database.exec('begin');
  } catch {
    return true;
  }
  database.exec('rollback');
  return false;
}

/** Names of the results that are asked for, by number (sqlite.org/rescode.html). */
const resultNames = new Map([
  [5, 'SQLITE_BUSY'],
  [10, 'SQLITE_IOERR'],
  [13, 'SQLITE_FULL'],
  [19, 'SQLITE_CONSTRAINT'],
  [1555, 'SQLITE_CONSTRAINT_PRIMARYKEY'],
  [2067, 'SQLITE_CONSTRAINT_UNIQUE'],
]);

/** Gives an error of SQLite its name as `code`: Node has the same for all, and the number beside it. */
function named<T>(task: () => T): T {
  try {
    return task();
  } catch (error) {
    if (error instanceof Error && 'errcode' in error && typeof error.errcode === 'number') {
      // The low byte is the result, what stands above it the kind.
      const name = resultNames.get(error.errcode) ?? resultNames.get(error.errcode & 0xff) ?? 'SQLITE_ERROR';
      Object.assign(error, { code: name });
    }
    throw error;
  }
}
