import { open, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ByteSource, ExportOptions } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { ifExists } from '../../base/files.js';
import { newId } from '../../base/ids.js';
import { CryoboxError } from '../../errors.js';
import { type ArchiveFacts, type MemberSource, writeArchive } from '../../formats/archive/index.js';
import { type DiskChain, flattenStream } from '../../formats/qcow2/index.js';
import { type BoxRow, type Holder, hold, type MemoryRow } from '../../store/index.js';
import { openDisk } from '../layers/copy.js';
import { slots } from '../layers/disk-layers.js';
import { memoryMap } from '../layers/memory-layers.js';
import type { MachinesContext } from '../machines/context.js';
import { withoutBoxSecrets, withoutSecrets } from '../record/config.js';
import { configOf } from '../record/rows.js';
import { captureDisks } from '../states/disk-capture.js';
import { takeMemory } from '../states/memory-snapshot.js';
import { refuseVolumes } from '../volumes/rules.js';
import { archivedMemory } from './memory.js';

/** Piece of an archive read at once. */
const readBytes = 256 * 1024;

/** Names of the members of an archive, in order. */
export const archiveMembers = { guest: 'guest-rootfs.qcow2', disk: 'disk.qcow2' } as const;

/** What of a box is exported: layers that no longer change. */
interface Exported {
  readonly guest: string;
  readonly disk: string;
  /** Absent: the disks only. */
  readonly memory?: MemoryRow;
}

/** A box held for an export: it may change and go, what is exported stays. */
export interface HeldBox extends Exported, AsyncDisposable {}

/**
 * Takes a box as it is, with its memory if that is asked for, and holds what it consists of. The guest stands still for
 * the switch of its heads, or for the capture of its memory, only. Called under the box's lock. Throws `invalid_state`
 * when memory is asked for and there is none, and what a capture throws.
 */
export async function holdBox(ctx: MachinesContext, row: BoxRow, options: ExportOptions): Promise<HeldBox> {
  const holder = `export:${newId('opn')}` as const;
  const letGo = (): Promise<void> => ctx.gc.letGo(holder);
  const exported = options.memory
    ? await takeWhole(ctx, row, holder, letGo)
    : await takeDisks(ctx, row, holder);
  return { ...exported, [Symbol.asyncDispose]: letGo };
}

async function takeDisks(ctx: MachinesContext, row: BoxRow, holder: Holder): Promise<Exported> {
  const captured = await captureDisks(ctx, row);
  const layers = [...new Set([captured.guest, captured.disk])];
  try {
    await ctx.commits.run(async (tx) => {
      await captured.apply(tx);
      await hold(tx, holder, layers);
    });
  } catch (error) {
    await captured.discard();
    throw error;
  }
  await captured.seal();
  return { guest: captured.guest, disk: captured.disk };
}

async function takeWhole(
  ctx: MachinesContext,
  row: BoxRow,
  holder: Holder,
  letGo: () => Promise<void>,
): Promise<Exported> {
  refuseVolumes(row, 'export the memory of', 'none');
  const { memory } = await takeMemory(
    ctx,
    row,
    async (tx, { layer_id, state_layer, guest_layer, disk_layer }) => {
      await hold(tx, holder, [...new Set([layer_id, state_layer, guest_layer, disk_layer])]);
    },
  );
  try {
    // While the box is locked it holds what its memory refers to; from here on the export does.
    const { layers } = await memoryMap(ctx, memory.layer_id);
    await ctx.commits.run((tx) => hold(tx, holder, layers));
  } catch (error) {
    await letGo();
    throw error;
  }
  return { guest: memory.guest_layer, disk: memory.disk_layer, memory };
}

/** Writes an archive of a held box. Returns its path. Throws `disk_full`, `storage_error`, `cancelled`; nothing is left then. */
export async function exportBox(
  ctx: MachinesContext,
  row: BoxRow,
  held: HeldBox,
  destination: string,
  options: ExportOptions & { readonly durable?: boolean },
): Promise<string> {
  const path = await archivePath(row, destination);
  const chains: DiskChain[] = [];
  try {
    const members: MemberSource[] = [];
    for (const slot of slots) {
      const chain = await openDisk(ctx, held[slot]);
      chains.push(chain);
      members.push({ name: archiveMembers[slot], ...(await flattenStream(chain)) });
    }
    const { compress, compressionLevel, durable, signal, onProgress } = options;
    await using memory = held.memory && (await archivedMemory(ctx, held.memory));
    members.push(...(memory?.members ?? []));
    const facts = { ...archiveFacts(row, options), memory: memory?.facts };
    await using place = await ctx.scratch.takeBeside(path);
    const packing = { compress, compressionLevel, durable, signal, onProgress };
    await writeArchive({ path, temporaryPath: place.path, members, facts, ...packing });
    return path;
  } finally {
    await Promise.all(chains.map((chain) => chain.close()));
  }
}

/**
 * The bytes of an archive of a held box. It is made first and read then: its beginning says what is in it. The file
 * has no name while it is read, so nothing is left however reading ends. Throws as {@link exportBox}.
 */
export async function exportBytes(
  ctx: MachinesContext,
  row: BoxRow,
  held: HeldBox,
  options: ExportOptions,
): Promise<ByteSource> {
  await using scratch = await ctx.scratch.take();
  const path = await exportBox(ctx, row, held, join(scratch.path, 'archive'), {
    ...options,
    durable: false,
  });
  const handle = await open(path, 'r');
  const stream = handle.createReadStream({ highWaterMark: readBytes, signal: options.signal });
  // It is an error of whoever reads; unread, it is nobody's.
  stream.on('error', () => undefined);
  return chunksOf(stream, options.signal);
}

async function* chunksOf(stream: ByteSource, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  try {
    yield* stream;
  } catch (error) {
    throwIfCancelled(signal, 'the export');
    throw error;
  }
}

async function archivePath(row: BoxRow, destination: string): Promise<string> {
  if (destination === '') throw new CryoboxError('invalid_argument', 'destination must not be empty');
  const path = resolve(destination);
  const facts = await ifExists(stat(path));
  return facts?.isDirectory() ? join(path, `${row.name ?? row.id}.boxsnap`) : path;
}

function archiveFacts(row: BoxRow, { includeMetadata = true, env = false }: ExportOptions): ArchiveFacts {
  const shape = { cpus: row.cpus, memoryMiB: row.memory_mib, diskSizeGb: row.disk_size_gb };
  const goldenKey = row.golden_key;
  if (!includeMetadata) return { shape, options: { goldenKey } };
  const whole = withoutBoxSecrets(configOf(row));
  const config = env ? whole : withoutSecrets(whole);
  // What is stored as JSON goes as it is. Volumes stay where they are.
  const options = {
    goldenKey,
    config: JSON.parse(JSON.stringify({ ...config, volumes: [] })),
    labels: JSON.parse(row.labels),
  };
  return { shape, options, image: row.image, ...(row.name === null ? {} : { boxName: row.name }) };
}
