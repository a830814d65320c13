import type { VolumeSlot } from '../../machine/index.js';

/** A volume of a box, and where it goes. */
export interface Attachment {
  readonly volumeId: string;
  readonly name: string;
  /** The volume's disk. */
  readonly layerId: string;
  readonly slot: VolumeSlot;
  readonly guestPath: string;
  readonly readOnly: boolean;
}

/** The volumes of a box that is about to get a machine; disposed of when its state says so, or it got none. */
export interface Claim extends Disposable {
  readonly attachments: readonly Attachment[];
}
