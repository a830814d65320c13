import { CryoboxError, errnoOf } from '../../errors.js';
import { databaseFailure, openSqlite } from '../../store/index.js';

/** Holds a home for one engine. */
export interface HomeLock {
  release(): void;
}

/**
 * Takes the lock of a home. It is a lock of the operating system on a small file, taken through SQLite, and ends
 * with the process however that ends. Throws `home_in_use` when another process holds it, `disk_full`, `database_error`.
 */
export async function lockHome(path: string): Promise<HomeLock> {
  const file = await openSqlite(path);
  try {
    file.exec('pragma busy_timeout = 0');
    file.exec('pragma locking_mode = EXCLUSIVE');
    // A rollback journal, not a log: the lock is on this one file.
    file.exec('pragma journal_mode = DELETE');
    file.exec('begin exclusive');
    return { release: () => file.close() };
  } catch (error) {
    file.close();
    if (errnoOf(error)?.startsWith('SQLITE_BUSY')) {
      throw new CryoboxError('home_in_use', 'another engine owns this home', { cause: error });
    }
    throw databaseFailure(error, `cannot lock ${path}`);
  }
}
