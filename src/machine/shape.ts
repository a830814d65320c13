import type { ArchitectureName } from './architectures.js';

/** What of a machine cannot change once it has booted. */
export interface MachineShape {
  readonly architecture: ArchitectureName;
  readonly cpus: number;
  readonly memoryMiB: number;
}

/** Size of the slots that disks stand in: any smaller disk fits, since a guest sees this size from its golden machine. */
export const diskSlotBytes = 1024 ** 4;

/** Where volumes go; a box has at most as many. Named so that the guest's kernel calls the first `vdc`. */
export const volumeSlots = ['volume0', 'volume1', 'volume2', 'volume3'] as const;

/**
 * Raised with every change of the devices of a machine: a memory fits only a machine with the same ones. 1: root ports
 * kept free in the place of the slots for volumes.
 */
export const deviceListVersion = 2;
