import type { DiskSlot } from '../../machine/index.js';

/** The disks of a box. */
export const slots = ['guest', 'disk'] as const satisfies readonly DiskSlot[];

/** Where a box's row names the head of a disk. */
export const headColumn = { guest: 'guest_head', disk: 'disk_head' } as const;
