import { CryoboxError, isCryoboxError, messageOf } from '../../errors.js';
import type { AgentClient } from '../../guest/index.js';
import { attachVolume, type Machine } from '../../machine/index.js';
import { requireLayer } from '../../store/index.js';
import type { Attachment } from './attachment.js';
import type { VolumesContext } from './context.js';

/** Puts the volumes of a box into the slots of a machine that waits for its state. Throws `machine_failed`. */
export async function attachVolumes(
  ctx: VolumesContext,
  machine: Machine,
  attachments: readonly Attachment[],
): Promise<void> {
  for (const { slot, layerId, readOnly } of attachments) {
    const path = ctx.layers.path(layerId);
    // Readers are users of their own; who wrote it last owns it.
    if (readOnly) await ctx.layers.seal(layerId);
    await machine.place({ path, name: layerId, writable: !readOnly });
    const shield = readOnly ? await placeShield(ctx, machine, layerId, slot) : undefined;
    await attachVolume(machine.qmp, slot, { file: layerId, shield });
  }
}

/** An overlay that stays empty, in the machine's directory only. */
async function placeShield(
  ctx: VolumesContext,
  machine: Machine,
  layerId: string,
  name: string,
): Promise<string> {
  const head = await ctx.layers.newHead(await requireLayer(ctx.db, layerId));
  try {
    await machine.place({ path: ctx.layers.path(head.id), name, writable: true });
  } finally {
    await ctx.layers.remove(head.id);
  }
  return name;
}

/**
 * Has the guest mount volumes, those first whose places hold others'. Throws `invalid_state` when one cannot be mounted
 * read-only, `machine_failed`.
 */
export async function mountVolumes(agent: AgentClient, attachments: readonly Attachment[]): Promise<void> {
  const byDepth = [...attachments].sort((a, b) => a.guestPath.length - b.guestPath.length);
  for (const { name, slot, guestPath, readOnly } of byDepth) {
    try {
      await agent.system.mountVolume({ serial: slot, path: guestPath, readOnly });
    } catch (error) {
      const message = `cannot mount volume "${name}" at ${guestPath}: ${messageOf(error)}`;
      if (!isCryoboxError(error, 'invalid_state'))
        throw new CryoboxError('machine_failed', message, { cause: error });
      throw new CryoboxError('invalid_state', message, {
        cause: error,
        hint: 'Start a box once that mounts the volume read-write, and stop it.',
      });
    }
  }
}
