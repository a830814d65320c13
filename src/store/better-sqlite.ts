import type { SqliteDriver, SqliteFile } from './sqlite-driver.js';

/** Loads better-sqlite3, an optional dependency with a native part. Throws what its import throws. */
export async function loadBetterSqlite(): Promise<SqliteDriver> {
  const { default: Database } = await import('better-sqlite3');
  // The native part is looked for when the first file is opened.
  new Database(':memory:').close();
  return {
    name: 'better-sqlite3',
    open(path, { readOnly = false }): SqliteFile {
      const file = new Database(path, { readonly: readOnly, fileMustExist: readOnly });
      return {
        get inTransaction() {
          return file.inTransaction;
        },
        exec: (sql) => {
          file.exec(sql);
        },
        prepare: (sql) => file.prepare(sql),
        close: () => {
          file.close();
        },
      };
    },
  };
}
