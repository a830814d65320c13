import type { BoxRow } from '../../store/index.js';
import type { VolumesContext } from '../volumes/context.js';
import type { Goldens } from './golden.js';
import type { HotMachines } from './hot.js';
import type { Interception } from './interception.js';
import type { LiveBoxes } from './live.js';
import type { PageServers } from './page-servers.js';
import type { PartsByArchitecture } from './parts.js';
import type { MachinePool } from './pool.js';

/** Keeps the chains of disks short. */
export interface ChainKeeper {
  /** Looks at a box's chains in a while, in the background. */
  consider(boxId: string): void;
  /** Makes room for one more layer, at once if there is none. Called under the box's lock. Throws `disk_full`. */
  makeRoom(row: BoxRow): Promise<void>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

/** What starting, stopping and watching machines needs; all rooms above use it as well. */
export interface MachinesContext extends VolumesContext {
  readonly parts: PartsByArchitecture;
  readonly goldens: Goldens;
  readonly pool: MachinePool;
  readonly hot: HotMachines;
  readonly pageServers: PageServers;
  /** Puts values of secrets into requests of boxes. */
  readonly interception: Interception;
  /** Boxes whose machine runs now. */
  readonly live: LiveBoxes;
  readonly flattener: ChainKeeper;
  /** Of a runtime for who may only read: false where boxes that do not run are not brought up. */
  readonly wakes?: boolean;
}
