import { homePaths } from '../engine/core/home.js';
import { prepareHome } from '../engine/core/home-directory.js';
import { lockHome } from '../engine/core/lock.js';
import { type Recovered, type RecoverOptions, recoverInto } from '../engine/replicas/recover.js';
import { openObjectStore } from '../objects/index.js';
import { openDatabase } from '../store/index.js';

export { defaultHome } from '../engine/core/home.js';
export type { Recovered, RecoverOptions };

/**
 * Brings what an object store holds of a home into the one at `home`, which is empty or not there yet. Throws
 * `home_in_use` while an engine has it, and as `recoverInto` does.
 */
export async function recoverHome(
  home: string,
  address: string,
  options: RecoverOptions = {},
): Promise<Recovered> {
  await using store = await openObjectStore(address);
  const paths = homePaths(home);
  await prepareHome(paths);
  const lock = await lockHome(paths.lock);
  try {
    const db = await openDatabase(paths.database);
    try {
      return await recoverInto(paths, db, store, options);
    } finally {
      await db.destroy();
    }
  } finally {
    lock.release();
  }
}
