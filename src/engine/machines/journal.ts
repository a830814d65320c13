import { openDisk } from '../layers/copy.js';
import type { MachinesContext } from './context.js';

/** Places in an ext4 file system (kernel documentation, ext4, "Super Block"). */
const superblock = { offset: 1024, bytes: 1024, magicAt: 56, magic: 0xef53, incompatAt: 96 } as const;
/** The file system was not unmounted: its journal has to be replayed (INCOMPAT_RECOVER). */
const needsRecovery = 0x4;

/**
 * Whether the file system on a disk was in use when the disk was written last, as after a power cut. False for what is not
 * ext4: there nothing is known.
 */
export async function needsReplay(ctx: MachinesContext, layerId: string): Promise<boolean> {
  await using chain = await openDisk(ctx, layerId);
  if (chain.virtualSizeBytes < superblock.offset + superblock.bytes) return false;
  const block = await chain.read(superblock.offset, superblock.bytes);
  if (block.readUInt16LE(superblock.magicAt) !== superblock.magic) return false;
  return (block.readUInt32LE(superblock.incompatAt) & needsRecovery) !== 0;
}
