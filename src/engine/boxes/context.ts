import type { ImagesContext } from '../images/context.js';
import type { MachinesContext } from '../machines/context.js';
import type { MachineGarbage } from '../machines/garbage.js';
import type { Replicator } from '../replicas/replicator.js';
import type { BoxInfos } from './infos.js';
import type { SeriesKeeper } from './series.js';

/** What operations on boxes and on the whole engine need. */
export interface EngineContext extends MachinesContext, ImagesContext {
  readonly infos: BoxInfos;
  readonly machineGarbage: MachineGarbage;
  /** What boxes used over the last hour. */
  readonly series: SeriesKeeper;
  /** Copies the home to an object store; undefined: it stays here. */
  readonly replicator: Replicator | undefined;
}
