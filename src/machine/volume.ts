import type { VolumeSlot } from './arguments.js';
import type { QmpClient } from './qmp.js';

/** A volume's file as it is named in the machine's private directory. */
export interface VolumeDisk {
  /** Raw disk image. */
  readonly file: string;
  /** Absent: the machine writes the volume. Else: an empty qcow2 overlay on the file, which takes nothing. */
  readonly shield?: string;
}

/** Error number of a write to a volume that is read-only (errno(3), EROFS). */
const readOnlyErrno = 30;

/** Kinds of requests that change a disk (QEMU's BlkdebugIOType, qapi/block-core.json). */
const changes = ['write', 'write-zeroes', 'discard'] as const;

/**
 * Puts a volume into its slot. Legal before the machine's state is loaded. Unlike a head it is opened with QEMU's
 * locks: two machines that write one volume would destroy it. Throws `machine_failed`.
 */
export async function attachVolume(qmp: QmpClient, slot: VolumeSlot, disk: VolumeDisk): Promise<void> {
  const readOnly = disk.shield !== undefined;
  await qmp.execute('blockdev-add', {
    'node-name': `${slot}-file`,
    driver: 'file',
    filename: disk.file,
    'read-only': readOnly,
    discard: 'unmap',
    locking: 'auto',
  });
  const top = disk.shield === undefined ? `${slot}-file` : await addShield(qmp, slot, disk.shield);
  await qmp.execute('blockdev-reopen', {
    options: [{ driver: 'raw', 'node-name': slot, file: top, discard: 'unmap' }],
  });
}

/**
 * The guest's device wants to write and was made long ago; a node that is read-only cannot stand below it. So one that
 * could be written does, and refuses whatever would change it.
 */
async function addShield(qmp: QmpClient, slot: VolumeSlot, shield: string): Promise<string> {
  await qmp.execute('blockdev-add', {
    'node-name': `${slot}-base`,
    driver: 'raw',
    'read-only': true,
    file: `${slot}-file`,
  });
  await qmp.execute('blockdev-add', {
    'node-name': `${slot}-overlay`,
    driver: 'qcow2',
    backing: `${slot}-base`,
    file: { driver: 'file', filename: shield, locking: 'off' },
  });
  await qmp.execute('blockdev-add', {
    'node-name': `${slot}-shield`,
    driver: 'blkdebug',
    image: `${slot}-overlay`,
    // Else a discard would be dropped before it is refused.
    discard: 'unmap',
    'inject-error': changes.map((iotype) => ({ event: 'none', iotype, errno: readOnlyErrno })),
  });
  return `${slot}-shield`;
}
