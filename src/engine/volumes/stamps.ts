import { stat } from 'node:fs/promises';
import { CryoboxError } from '../../errors.js';
import type { BoxRow, MemoryRow } from '../../store/index.js';
import type { Attachment } from './attachment.js';
import { attachmentsOf } from './attachments.js';
import type { VolumesContext } from './context.js';

/** A volume that is mounted in a memory, and when its disk was written last: the memory fits no later content. */
export interface VolumeStamp {
  readonly volume: string;
  readonly slot: string;
  readonly readOnly: boolean;
  /** Modification time of the file in nanoseconds. */
  readonly writtenAtNs: string;
}

/** What a memory of a box is to remember of its volumes. The machine stands still; what it wrote is durable afterwards. */
export async function takeStamps(ctx: VolumesContext, box: BoxRow): Promise<VolumeStamp[]> {
  const attachments = await attachmentsOf(ctx.db, box);
  const written = attachments.filter(({ readOnly }) => !readOnly).map(({ layerId }) => layerId);
  if (written.length > 0) await ctx.layers.sync(written);
  return await Promise.all(
    attachments.map(async (attachment) => ({
      volume: attachment.volumeId,
      slot: attachment.slot,
      readOnly: attachment.readOnly,
      writtenAtNs: await writtenAtNs(ctx, attachment),
    })),
  );
}

/** The volumes that are mounted in a memory. */
export function stampsOf({ volumes }: Pick<MemoryRow, 'volumes'>): VolumeStamp[] {
  return JSON.parse(volumes) as VolumeStamp[];
}

/**
 * Throws `invalid_state` unless every volume that is mounted in a memory is one of the box's and has not been written
 * since: the guest would go on with what it remembers of another file system.
 */
export async function checkStamps(
  ctx: VolumesContext,
  memory: MemoryRow,
  attachments: readonly Attachment[],
): Promise<void> {
  for (const stamp of stampsOf(memory)) {
    const attachment = attachments.find((it) => it.volumeId === stamp.volume && it.slot === stamp.slot);
    if (attachment?.readOnly !== stamp.readOnly) throw unfit(`volume ${stamp.volume} is missing`, memory);
    if ((await writtenAtNs(ctx, attachment)) !== stamp.writtenAtNs) {
      throw unfit(`volume "${attachment.name}" was written since`, memory);
    }
  }
}

function unfit(why: string, memory: MemoryRow): CryoboxError {
  return new CryoboxError('invalid_state', `the memory cannot go on: ${why}`, {
    hint: 'Start the box from its disks with discardMemory.',
    details: { memory: memory.id },
  });
}

async function writtenAtNs(ctx: VolumesContext, { layerId }: Attachment): Promise<string> {
  const { mtimeNs } = await stat(ctx.layers.path(layerId), { bigint: true });
  return String(mtimeNs);
}
