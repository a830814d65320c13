import type { Logger } from '../../base/log.js';
import type { Database, GroupCommit } from '../../store/index.js';
import type { Activity } from './activity.js';
import type { Counters } from './counters.js';
import type { Deadlines } from './deadlines.js';
import type { Events } from './events.js';
import type { HomePaths } from './home.js';
import type { ImportRoom } from './import-room.js';
import type { Limits } from './limits.js';
import type { Previews } from './previews.js';
import type { PublishedPorts } from './published-ports.js';
import type { Vault } from './vault.js';
import type { Work } from './work.js';

/** What every room of the engine may use. */
export interface CoreContext {
  readonly paths: HomePaths;
  readonly db: Database;
  /** Changes that must be durable when they return. */
  readonly commits: GroupCommit;
  readonly events: Events;
  readonly imports: ImportRoom;
  /** Admits what is to be made or to run. */
  readonly limits: Limits;
  /** Who uses which box, and until when one that nobody uses stays as it is. */
  readonly activity: Activity;
  /** When runs of boxes end that last no longer than their owners said. */
  readonly runEnds: Deadlines;
  readonly counters: Counters;
  readonly ports: PublishedPorts;
  readonly previews: Previews;
  /** Values of secrets of boxes. */
  readonly vault: Vault;
  readonly logger: Logger;
  /** What is under way, which the engine waits for when it closes. */
  readonly work: Work;
  /** Aborted when the engine closes. */
  readonly closing: AbortController;
}
