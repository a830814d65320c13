import type { BoxActivity } from '../../api/index.js';
import type { KeyedMutex } from '../../base/mutex.js';
import type { CoreContext } from '../core/context.js';

/** What changing the record of a box needs. */
export interface RecordContext extends CoreContext {
  /** What is under way on which box; in memory only, so that a crash leaves none behind. */
  readonly activities: Map<string, BoxActivity>;
  /** Serialises what changes one box. */
  readonly boxLocks: KeyedMutex;
}
