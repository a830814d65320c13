/** An open SQLite file. Its errors have SQLite's names as `code`, such as `SQLITE_BUSY`, whichever driver it is. */
export interface SqliteFile {
  /** Whether a transaction is open: SQLite ends one by itself when the disk is full. */
  readonly inTransaction: boolean;
  /** Runs statements that have no parameters; what they select is dropped. */
  exec(sql: string): void;
  /** Makes one statement ready to be run many times. */
  prepare(sql: string): SqliteStatement;
  close(): void;
}

/** A statement that is ready, in the shape that Kysely's dialect for SQLite takes. */
export interface SqliteStatement {
  /** Whether it gives rows. */
  readonly reader: boolean;
  all(parameters: readonly unknown[]): unknown[];
  run(parameters: readonly unknown[]): {
    readonly changes: number | bigint;
    readonly lastInsertRowid: number | bigint;
  };
  iterate(parameters: readonly unknown[]): IterableIterator<unknown>;
}

/** How a file is opened. */
export interface SqliteOptions {
  /** The file must be there, and stays as it is. @default false */
  readonly readOnly?: boolean;
}

/** Something that opens SQLite files. */
export interface SqliteDriver {
  readonly name: 'node:sqlite' | 'better-sqlite3';
  open(path: string, options: SqliteOptions): SqliteFile;
}
