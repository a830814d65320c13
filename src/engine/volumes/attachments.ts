import type { VolumeMount } from '../../api/index.js';
import { CryoboxError } from '../../errors.js';
import { volumeSlots } from '../../machine/index.js';
import {
  type BoxRow,
  type Database,
  findOwned,
  insertBoxVolume,
  type VolumeRow,
  volumesOfBox,
} from '../../store/index.js';
import { configOf } from '../record/rows.js';
import { isVolumeId, normalGuestPath } from '../record/volume-mounts.js';
import type { Attachment } from './attachment.js';
import type { VolumesContext } from './context.js';
import { createVolume } from './create.js';

/**
 * The volumes that a new box is to have; one that is to be written and is not there yet is made. Throws `not_found`,
 * `invalid_argument` when two of them are the same, and what making one throws.
 */
export async function resolveMounts(
  ctx: VolumesContext,
  tenant: string,
  mounts: readonly VolumeMount[] = [],
): Promise<Attachment[]> {
  const attachments: Attachment[] = [];
  for (const [index, mount] of mounts.entries()) {
    const row = await requireVolume(ctx, tenant, mount);
    if (attachments.some(({ volumeId }) => volumeId === row.id)) {
      throw new CryoboxError('invalid_argument', `volume "${row.name}" is mounted twice`);
    }
    const guestPath = normalGuestPath(mount.guestPath);
    attachments.push(attachment(row, { slot: index, guestPath, readOnly: mount.readOnly ?? false }));
  }
  return attachments;
}

async function requireVolume(ctx: VolumesContext, tenant: string, mount: VolumeMount): Promise<VolumeRow> {
  const name = mount.volume;
  const found = await findOwned(ctx.db, 'volumes', tenant, name);
  if (found) return found;
  // One that is only read would stay empty for ever.
  if (isVolumeId(name) || mount.readOnly) throw volumeGone(name);
  try {
    return await createVolume(ctx, tenant, { name });
  } catch (error) {
    // Somebody else made it meanwhile.
    const made = await findOwned(ctx.db, 'volumes', tenant, name);
    if (made) return made;
    throw error;
  }
}

/** There is no such volume. */
export function volumeGone(name: string): CryoboxError {
  return new CryoboxError('not_found', `there is no volume ${JSON.stringify(name)}`, {
    details: { volume: name },
  });
}

/** What of it a box's configuration shows. */
export function mountsOf(attachments: readonly Attachment[]): VolumeMount[] {
  return attachments.map(({ name, guestPath, readOnly }) => ({ volume: name, guestPath, readOnly }));
}

/** Stores the volumes of a new box; in the transaction that stores the box. Throws `not_found` when one is gone. */
export async function insertAttachments(
  tx: Database,
  boxId: string,
  attachments: readonly Attachment[],
): Promise<void> {
  for (const attachment of attachments) {
    const slot = volumeSlots.indexOf(attachment.slot);
    if (!(await insertBoxVolume(tx, boxId, { ...attachment, slot }))) throw volumeGone(attachment.name);
  }
}

/** The volumes of a box, in the order of their slots. */
export async function attachmentsOf(db: Database, box: BoxRow): Promise<Attachment[]> {
  // Most boxes have none: the row says so without another query.
  if (configOf(box).volumes.length === 0) return [];
  const rows = await volumesOfBox(db, box.id);
  return rows.map(({ slot, guestPath, readOnly, ...row }) => attachment(row, { slot, guestPath, readOnly }));
}

function attachment(
  volume: Pick<VolumeRow, 'id' | 'name' | 'layer_id'>,
  place: { readonly slot: number; readonly guestPath: string; readonly readOnly: boolean },
): Attachment {
  const slot = volumeSlots[place.slot];
  if (slot === undefined) throw new CryoboxError('internal', `a machine has no slot ${place.slot}`);
  return { ...place, slot, volumeId: volume.id, name: volume.name, layerId: volume.layer_id };
}
