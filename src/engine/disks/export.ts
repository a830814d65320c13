import { open, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ByteSource, ExportOptions } from '../../api/index.js';
import { type ArchiveFacts, type MemberSource, writeArchive } from '../../archive/index.js';
import { ifExists } from '../../base/files.js';
import { newId } from '../../base/ids.js';
import { type DiskChain, flattenStream } from '../../disk/index.js';
import { CryoboxError } from '../../errors.js';
import { type BoxRow, hold, release } from '../../store/index.js';
import type { EngineContext } from '../context.js';
import { notYet } from '../not-yet.js';
import { captureDisks } from './capture.js';
import { openDisk } from './copy.js';
import { slots } from './layers.js';

/** Piece of an archive read at once. */
const readBytes = 256 * 1024;

/** Names of the members of an archive, in order. */
export const archiveMembers = { guest: 'guest-rootfs.qcow2', disk: 'disk.qcow2' } as const;

/**
 * Disks of a box that are held for an export: the box may change and go, they stay. The guest stands still for the
 * switch of its heads only.
 */
export interface HeldDisks extends AsyncDisposable {
  readonly guest: string;
  readonly disk: string;
}

/** Captures the disks of a box and holds them. Called under the box's lock. */
export async function holdDisks(ctx: EngineContext, row: BoxRow): Promise<HeldDisks> {
  const captured = await captureDisks(ctx, row);
  const holder = `export:${newId('opn')}` as const;
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
  return {
    guest: captured.guest,
    disk: captured.disk,
    [Symbol.asyncDispose]: async () => {
      await ctx.commits.run((tx) => release(tx, holder));
      ctx.gc.soon();
    },
  };
}

/** Writes an archive of held disks. Returns its path. Throws `disk_full`, `storage_error`, `cancelled`; nothing is left then. */
export async function exportDisks(
  ctx: EngineContext,
  row: BoxRow,
  disks: HeldDisks,
  destination: string,
  options: ExportOptions & { readonly durable?: boolean },
): Promise<string> {
  if (options.memory) throw notYet('export with memory');
  const path = await archivePath(row, destination);
  const chains: DiskChain[] = [];
  try {
    const members: MemberSource[] = [];
    for (const slot of slots) {
      const chain = await openDisk(ctx, disks[slot]);
      chains.push(chain);
      members.push({ name: archiveMembers[slot], ...(await flattenStream(chain)) });
    }
    const { compress, compressionLevel, durable, signal, onProgress } = options;
    const facts = archiveFacts(row, options.includeMetadata ?? true);
    await writeArchive({ path, members, facts, compress, compressionLevel, durable, signal, onProgress });
    return path;
  } finally {
    await Promise.all(chains.map((chain) => chain.close()));
  }
}

/**
 * The bytes of an archive of held disks. It is made first and read then: its beginning says what is in it. The file
 * has no name while it is read, so nothing is left however reading ends. Throws as {@link exportDisks}.
 */
export async function exportBytes(
  ctx: EngineContext,
  row: BoxRow,
  disks: HeldDisks,
  options: ExportOptions,
): Promise<ByteSource> {
  await using scratch = await ctx.scratch.take();
  const path = await exportDisks(ctx, row, disks, join(scratch.path, 'archive'), {
    ...options,
    durable: false,
  });
  const handle = await open(path, 'r');
  const stream = handle.createReadStream({ highWaterMark: readBytes, signal: options.signal });
  // It is an error of whoever reads; unread, it is nobody's.
  stream.on('error', () => undefined);
  return stream;
}

async function archivePath(row: BoxRow, destination: string): Promise<string> {
  if (destination === '') throw new CryoboxError('invalid_argument', 'destination must not be empty');
  const path = resolve(destination);
  const facts = await ifExists(stat(path));
  return facts?.isDirectory() ? join(path, `${row.name ?? row.id}.boxsnap`) : path;
}

function archiveFacts(row: BoxRow, includeMetadata: boolean): ArchiveFacts {
  const shape = { cpus: row.cpus, memoryMiB: row.memory_mib, diskSizeGb: row.disk_size_gb };
  const goldenKey = row.golden_key;
  if (!includeMetadata) return { shape, options: { goldenKey } };
  // What is stored as JSON goes as it is; it holds no secrets.
  const options = { goldenKey, config: JSON.parse(row.config), labels: JSON.parse(row.labels) };
  return { shape, options, image: row.image, ...(row.name === null ? {} : { boxName: row.name }) };
}
