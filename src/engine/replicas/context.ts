import type { ImagesContext } from '../images/context.js';
import type { MachinesContext } from '../machines/context.js';

/** What replicating a home needs. */
export interface ReplicasContext extends MachinesContext, ImagesContext {}
