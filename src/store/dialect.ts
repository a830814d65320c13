import { type DatabaseConnection, type Driver, SqliteDialect, SqliteDriver } from 'kysely';
import { LRUCache } from 'lru-cache';
import type { SqliteFile, SqliteStatement } from './sqlite-driver.js';

/** Statements kept ready; the engine has about a hundred, and those with lists of ids vary in length. */
const maxStatements = 300;

/**
 * What takes effect when it is run. A pragma may do so when it is prepared (SQLite, "PRAGMA Statements"): one kept
 * ready would change nothing the second time.
 */
const isKept = (sql: string): boolean =>
  /^(select|insert|update|delete|savepoint|release|begin|commit)\b/i.test(sql);

/** Keeps statements ready by their text: to prepare one takes as long as to run it. */
function preparing(file: SqliteFile): (sql: string) => SqliteStatement {
  const ready = new LRUCache<string, SqliteStatement>({ max: maxStatements });
  return (sql) => {
    if (!isKept(sql)) return file.prepare(sql);
    const known = ready.get(sql);
    if (known) return known;
    const statement = file.prepare(sql);
    ready.set(sql, statement);
    return statement;
  };
}

/** Kysely over an open file, of either driver. SQLite rolls a transaction back by itself when the disk is full. */
export class Dialect extends SqliteDialect {
  readonly #file: SqliteFile;

  constructor(file: SqliteFile) {
    super({ database: file });
    this.#file = file;
  }

  override createDriver(): Driver {
    const file = this.#file;
    return new (class extends SqliteDriver {
      override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
        if (file.inTransaction) await super.rollbackTransaction(connection);
      }
    })({ database: { prepare: preparing(file), close: () => file.close() } });
  }
}
