import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { CryoboxError, messageOf } from '../../errors.js';
import { loadState } from '../../machine/index.js';
import {
  type LayerMap,
  type MemoryImage,
  planResume,
  type ResumePlan,
  writeResumeStream,
} from '../../memory/index.js';
import { parseDeviceState } from '../../migration/index.js';
import type { MemoryRow } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { requireLayer } from '../disks/layers.js';
import type { Golden } from '../machines/golden.js';
import { goldenSpec } from '../machines/pool.js';
import type { StateSource } from '../machines/restore.js';
import { memoryMap, openMemory, pageKinds } from './layers.js';

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
  ctx: EngineContext,
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
export async function readState(ctx: EngineContext, layerId: string): Promise<Buffer> {
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

/** The flat layers among those that a map refers to: what is not different is there already. */
export async function flatCandidates(ctx: EngineContext, map: LayerMap): Promise<LayerMap[]> {
  if (map.form === 'flat') return [map];
  const rows = await ctx.db
    .selectFrom('layers')
    .select(['id', 'kind'])
    .where('id', 'in', [...map.layers])
    .where('kind', '=', pageKinds[0])
    .execute();
  return await Promise.all(rows.map(({ id }) => memoryMap(ctx, id)));
}

/** Maps the nearest flat layer and streams the difference. */
export function mappedSource(ctx: EngineContext, opened: OpenedMemory, outbound: boolean): StateSource {
  const { memory, golden, image, plan, deviceSections } = opened;
  return {
    acquire: async () => {
      const [waiting, warmed] = await Promise.allSettled([
        ctx.pool.take({ ...goldenSpec(golden, outbound), baseLayer: plan.baseLayerId }),
        image.warm(plan.extents),
      ]);
      if (waiting.status === 'rejected') throw waiting.reason;
      if (warmed.status === 'fulfilled') return waiting.value;
      await ctx.pool.discard(waiting.value);
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
