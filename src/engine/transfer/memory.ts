import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { faultPoint } from '../../base/faults.js';
import { newId } from '../../base/ids.js';
import { isCryoboxError } from '../../errors.js';
import {
  invalidArchive,
  type Manifest,
  type MemberSource,
  type ReadMember,
} from '../../formats/archive/index.js';
import { adoptPortable, portableLayer, portableLimits } from '../../formats/pages/index.js';
import {
  encodeDeviceState,
  MAX_DEVICE_STATE_BYTES,
  parseDeviceState,
} from '../../formats/qemu-stream/index.js';
import type { LayerRow, MemoryRow } from '../../store/index.js';
import { openMemory } from '../layers/memory-layers.js';
import { LayerDraft, type WrittenLayer } from '../layers/merged-layers.js';
import type { MachinesContext } from '../machines/context.js';
import { readState } from '../machines/source.js';

/** Names of the members that are a memory, in the order they are written: the map holds hashes of the pages. */
export const memoryMembers = {
  state: 'device.state',
  pages: 'memory.pages',
  map: 'memory.map',
} as const;

const bytesPerMiB = 1024 ** 2;

/** Versions and names as QEMU and the kernel give them. */
const fact = z.string().regex(/^[\x21-\x7e][\x20-\x7e]{0,127}$/);

/** What a memory must find where it goes on; see guard.ts. */
const memoryFacts = z.strictObject({
  qemuVersion: fact,
  machineType: z.string().regex(/^[a-z0-9._-]{1,64}$/),
  cpuModel: fact,
  accelerator: z.enum(['kvm', 'tcg']),
  kernelVersion: fact,
  assetsKey: fact,
  // Archives of before volumes do not say.
  devices: z
    .int()
    .min(1)
    .max(2 ** 31)
    .default(1),
});

/** Facts about a memory in an archive, checked. */
export type ArchivedFacts = z.infer<typeof memoryFacts>;

/** A memory as members of an archive. */
export interface ArchivedMemory extends AsyncDisposable {
  readonly facts: ArchivedFacts;
  readonly members: readonly MemberSource[];
}

/** Opens a memory to be written to an archive, whole: golden machine and former generations are in it. */
export async function archivedMemory(ctx: MachinesContext, memory: MemoryRow): Promise<ArchivedMemory> {
  const state = encodeDeviceState(await readState(ctx, memory.state_layer));
  const image = await openMemory(ctx, memory.layer_id);
  const layer = portableLayer(image);
  return {
    facts: {
      qemuVersion: memory.qemu_version,
      machineType: memory.machine_type,
      cpuModel: memory.cpu_model,
      accelerator: memory.accelerator === 'kvm' ? 'kvm' : 'tcg',
      kernelVersion: memory.kernel_version,
      assetsKey: memory.assets_key,
      devices: memory.devices,
    },
    members: [
      { name: memoryMembers.state, sizeBytes: state.length, open: () => once(() => state) },
      {
        name: memoryMembers.pages,
        sizeBytes: layer.pagesBytes,
        open: ({ signal }) => layer.pages(signal),
      },
      { name: memoryMembers.map, sizeBytes: layer.mapBytes, open: () => once(() => layer.map()) },
    ],
    [Symbol.asyncDispose]: () => image.close(),
  };
}

async function* once(make: () => Buffer): AsyncGenerator<Buffer> {
  yield make();
}

/**
 * The facts of the memory in an archive, or undefined when it holds none. Throws `archive_invalid` for facts of a wrong
 * form, members that are missing, and ones larger than such a machine can have.
 */
export function archivedFacts({ memory, members, shape }: Manifest): ArchivedFacts | undefined {
  if (!memory) return undefined;
  const parsed = memoryFacts.safeParse(memory);
  if (!parsed.success) throw invalidArchive(`the memory in manifest.json: ${z.prettifyError(parsed.error)}`);
  const limits = portableLimits(shape.memoryMiB * bytesPerMiB);
  for (const [name, limitBytes] of [
    [memoryMembers.state, MAX_DEVICE_STATE_BYTES],
    [memoryMembers.pages, limits.pagesBytes],
    [memoryMembers.map, limits.mapBytes],
  ] as const) {
    const member = members.find((candidate) => candidate.name === name);
    if (!member) throw invalidArchive(`it holds no ${name}`);
    if (member.sizeBytes > limitBytes) {
      throw invalidArchive(`${name} has ${member.sizeBytes} bytes, at most ${limitBytes} are allowed`);
    }
  }
  return parsed.data;
}

/** Where a memory from an archive belongs. */
interface AdoptedMemory {
  readonly facts: ArchivedFacts;
  readonly members: readonly ReadMember[];
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly goldenKey: string;
  readonly disks: { readonly guest: LayerRow; readonly disk: LayerRow };
  readonly signal: AbortSignal | undefined;
}

/**
 * Makes layers of the memory in an archive: its pages become one flat layer, which machines can map. The rows go to
 * `made`, files and all, and the caller removes them when it fails. Returns the memory; nothing is stored yet. Throws
 * `archive_invalid`, `disk_full`, `storage_error`, `cancelled`.
 */
export async function adoptMemory(
  ctx: MachinesContext,
  { facts, members, disks, ...box }: AdoptedMemory,
  made: LayerRow[],
): Promise<MemoryRow> {
  const pathOf = (wanted: string): string => members.find(({ name }) => name === wanted)?.path ?? '';
  const sha256 = members.find(({ name }) => name === memoryMembers.state)?.sha256 ?? null;
  const sealed = { parent_id: null, state: 'sealed', virtual_bytes: 0 };
  const state = { ...ctx.layers.newRow({ ...sealed, kind: 'device-state' }), sha256 };
  made.push(state);
  await using draft = new LayerDraft(ctx);
  let pages: WrittenLayer;
  try {
    parseDeviceState(await readFile(pathOf(memoryMembers.state)));
    faultPoint('layer.write:before');
    pages = await draft.write((layerId, to) =>
      adoptPortable({
        from: { map: pathOf(memoryMembers.map), pages: pathOf(memoryMembers.pages) },
        to,
        layerId,
        ramBytes: box.memoryMiB * bytesPerMiB,
        signal: box.signal,
      }),
    );
    faultPoint('layer.write:after');
  } catch (error) {
    if (isCryoboxError(error, 'integrity')) throw invalidArchive(error.message, error);
    throw error;
  }
  Object.assign(state, await ctx.layers.publish(state, pathOf(memoryMembers.state)));
  made.push(...pages.rows);
  draft.keep();
  return {
    id: newId('mem'),
    created_at: Date.now(),
    layer_id: pages.map.layers[0] ?? '',
    state_layer: state.id,
    guest_layer: disks.guest.id,
    disk_layer: disks.disk.id,
    working_set: null,
    golden_key: box.goldenKey,
    cpus: box.cpus,
    memory_mib: box.memoryMiB,
    accelerator: facts.accelerator,
    qemu_version: facts.qemuVersion,
    machine_type: facts.machineType,
    cpu_model: facts.cpuModel,
    kernel_version: facts.kernelVersion,
    assets_key: facts.assetsKey,
    devices: facts.devices,
    volumes: '[]',
    run: '',
  };
}
