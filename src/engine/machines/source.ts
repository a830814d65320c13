import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { CryoboxError, messageOf } from '../../errors.js';
import {
  type MemoryImage,
  planResume,
  type ResumePlan,
  writeResumeStream,
} from '../../formats/pages/index.js';
import { parseDeviceState, withoutUserNetwork } from '../../formats/qemu-stream/index.js';
import { type Card, loadState } from '../../machine/index.js';
import { type MemoryRow, requireLayer } from '../../store/index.js';
import { flatCandidates, openMemory } from '../layers/memory-layers.js';
import type { MachinesContext } from './context.js';
import type { Golden } from './golden.js';
import { goldenSpec } from './pool.js';
import type { StateSource } from './restore.js';

/** A memory that is open, and how it is nearest to what can be mapped. Shared by everything restored from it at once. */
export interface OpenedMemory extends AsyncDisposable {
  readonly memory: MemoryRow;
  readonly golden: Golden;
  readonly image: MemoryImage;
  readonly plan: ResumePlan;
  readonly deviceSections: Buffer;
}

/** Largest device state file that is read: far above what QEMU writes. */
const maxStateBytes = 64 * 1024 * 1024;

/** Opens a memory for resumes. Throws `integrity` when a layer is missing or damaged. */
export async function openForResume(
  ctx: MachinesContext,
  memory: MemoryRow,
  golden: Golden,
): Promise<OpenedMemory> {
  const deviceSections = await readState(ctx, memory.state_layer);
  const image = await openMemory(ctx, memory.layer_id);
  try {
    const plan = planResume(image.map, await flatCandidates(ctx, image.map));
    return { memory, golden, image, plan, deviceSections, [Symbol.asyncDispose]: () => image.close() };
  } catch (error) {
    await image.close();
    throw error;
  }
}

/** Device sections as they were saved. Throws `integrity` when the layer is missing or damaged. */
export async function readState(ctx: MachinesContext, layerId: string): Promise<Buffer> {
  const path = ctx.layers.path(layerId);
  try {
    const { size } = await stat(path);
    if (size > maxStateBytes) throw new Error(`it has ${size} bytes`);
    const content = await readFile(path);
    const { sha256 } = await requireLayer(ctx.db, layerId);
    const got = createHash('sha256').update(content).digest('hex');
    if (got !== sha256) throw new Error(`its SHA-256 is ${got}, expected ${sha256}`);
    return parseDeviceState(content);
  } catch (error) {
    throw new CryoboxError('integrity', `device state ${layerId} cannot be used: ${messageOf(error)}`, {
      cause: error,
      details: { layer: layerId },
    });
  }
}

/** Maps the nearest flat layer and streams the difference. */
export function mappedSource(ctx: MachinesContext, opened: OpenedMemory, card: Card): StateSource {
  const { memory, golden, image, plan } = opened;
  const deviceSections =
    card === 'gateway' ? withoutUserNetwork(opened.deviceSections) : opened.deviceSections;
  return {
    acquire: async () => {
      const [waiting, warmed] = await Promise.allSettled([
        ctx.pool.take({ ...goldenSpec(golden, card), baseLayer: plan.baseLayerId }),
        image.warm(plan.extents),
      ]);
      if (waiting.status === 'rejected') throw waiting.reason;
      if (warmed.status === 'fulfilled') return waiting.value;
      await ctx.pool.giveUp(waiting.value);
      throw warmed.reason;
    },
    load: async (machine) => {
      await loadState(machine.qmp, machine.directory, {
        ignoreShared: false,
        write: async (socket) => {
          await writeResumeStream({
            socket,
            machineType: memory.machine_type,
            image,
            plan,
            deviceSections,
          });
        },
      });
      await machine.run();
    },
  };
}
