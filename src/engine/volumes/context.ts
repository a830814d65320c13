import type { BoxRow } from '../../store/index.js';
import type { LayersContext } from '../layers/context.js';
import type { Claim } from './attachment.js';

/** Sees to it that a volume has one writer, or readers only. */
export interface VolumeKeeper {
  /** Takes the volumes of a box for the machine that it is about to get. Throws `conflict`, naming who has one. */
  claim(row: BoxRow): Promise<Claim>;
}

/** What giving volumes to boxes needs. */
export interface VolumesContext extends LayersContext {
  /** Who may have which volume. */
  readonly volumes: VolumeKeeper;
}
