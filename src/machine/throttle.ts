import type { QmpClient } from './qmp.js';
import { volumeSlots } from './shape.js';

/** What all disks of a machine do in a second at most, together; 0: not limited. Bytes and requests of the guest. */
export interface Throttle {
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly readOperations: number;
  readonly writeOperations: number;
}

/** The throttle group of a machine's disks. Without limits no disk is in it, and nothing is counted. */
const group = 'disks';
const slots = ['guest', 'disk', ...volumeSlots] as const;

/**
 * Limits all disks of a machine, or lifts the limits (QMP `block_set_io_throttle`, qapi/block-core.json). At the back end
 * of the guest's device: the block nodes below, and what the machine does with them, stay as they are. Legal at any time.
 * While a disk is drained, as for a new head, requests pass without waiting. Throws `machine_failed`.
 */
export async function throttleDisks(qmp: QmpClient, throttle: Throttle): Promise<void> {
  const limits = {
    ...{ bps: 0, bps_rd: throttle.readBytes, bps_wr: throttle.writeBytes },
    ...{ iops: 0, iops_rd: throttle.readOperations, iops_wr: throttle.writeOperations },
  };
  const limit = (slot: string): Promise<unknown> =>
    // A device on the PCI bus keeps its back end in a part of its own.
    qmp.execute('block_set_io_throttle', {
      id: `/machine/peripheral/${slot}-device/virtio-backend`,
      group,
      ...limits,
    });
  await Promise.all(slots.map(limit));
}
