/** Small changes to the header of an image that nothing uses yet. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { faultPoint } from '../../base/faults.js';
import { readFully } from '../../base/files.js';
import { CryoboxError, wrapHostError } from '../../errors.js';
import { type Backing, CLUSTER_BYTES, invalidImage, REGION_BYTES } from './format.js';
import { encodeHeader, parseHeader, type Qcow2Header } from './header.js';
import { checkBacking, checkVirtualSize } from './overlay.js';

/** Whether a change is fsynced before it returns. */
export interface RewriteOptions {
  /** Default false. */
  readonly durable?: boolean;
}

/**
 * Names another backing layer, or none, without touching data: the guest sees the same disk only if the new layer
 * holds what the old one held. For a file nothing uses. Throws `invalid_argument` for a bad name,
 * `disk_image_invalid`, `disk_full`, `storage_error`.
 */
export async function setBacking(
  path: string,
  backing: Backing | null,
  options: RewriteOptions = {},
): Promise<void> {
  if (backing) checkBacking(backing);
  await rewrite(path, options, (header) => ({ ...header, backing }));
}

/**
 * Writes another backing name over one of the same length and format, and nothing else: also while QEMU, which does not
 * rewrite its header, has the image open. Durable. Throws `invalid_argument` when the lengths differ,
 * `disk_image_invalid`, `storage_error`.
 */
export async function renameBacking(path: string, name: string): Promise<void> {
  checkBacking({ name, format: 'qcow2' });
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
    const { size } = await handle.stat();
    const cluster = Buffer.alloc(Math.min(size, CLUSTER_BYTES));
    await readFully(handle, cluster, 0);
    const { backing } = parseHeader(cluster, size, path);
    if (backing?.name.length !== name.length) {
      const lengths = `${backing?.name ?? 'none'} and ${name}`;
      throw new CryoboxError('invalid_argument', `backing names of one length expected, got ${lengths}`);
    }
    faultPoint('header.write:before');
    await handle.write(name, Number(cluster.readBigUInt64BE(BACKING_OFFSET_AT)), 'latin1');
    faultPoint('header.write:after');
    await handle.sync();
  } catch (error) {
    throw wrapHostError(error, `change disk image ${path}`);
  } finally {
    await handle?.close();
  }
}

/** Where a header says at which offset the backing file's name is (qcow2.txt, "Header"). */
const BACKING_OFFSET_AT = 8;

/**
 * Enlarges the disk the guest sees. The new part reads as zeros, or as what a layer underneath holds there when that
 * one is larger. For a file nothing uses. Throws `invalid_argument` when the size is not allowed or smaller than
 * before, `disk_image_invalid`, `disk_full`, `storage_error`.
 */
export async function growVirtualSize(
  path: string,
  virtualSizeBytes: number,
  options: RewriteOptions = {},
): Promise<void> {
  checkVirtualSize(virtualSizeBytes);
  await rewrite(path, options, async (header, handle) => {
    if (virtualSizeBytes < header.virtualSizeBytes) {
      const sizes = `from ${header.virtualSizeBytes} to ${virtualSizeBytes} bytes`;
      throw new CryoboxError('invalid_argument', `a disk cannot shrink ${sizes}`);
    }
    if (header.l1Entries === 0) throw invalidImage(path, 'it has no L1 table to grow');
    const l1Entries = Math.max(header.l1Entries, Math.ceil(virtualSizeBytes / REGION_BYTES));
    await clearNewEntries(handle, header, l1Entries);
    return { ...header, virtualSizeBytes, l1Entries };
  });
}

type Change = (header: Qcow2Header, handle: FileHandle) => Qcow2Header | Promise<Qcow2Header>;

async function rewrite(path: string, options: RewriteOptions, change: Change): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
    const { size } = await handle.stat();
    const before = Buffer.alloc(CLUSTER_BYTES);
    await readFully(handle, before.subarray(0, Math.min(size, CLUSTER_BYTES)), 0);
    const header = parseHeader(before.subarray(0, Math.min(size, CLUSTER_BYTES)), size, path);
    // The whole cluster is written, so that nothing of a longer header stays behind the new one.
    const after = Buffer.alloc(CLUSTER_BYTES);
    encodeHeader(await change(header, handle)).copy(after);
    faultPoint('header.write:before');
    await handle.write(after, 0, after.length, 0);
    faultPoint('header.write:after');
    if (options.durable) await handle.sync();
  } catch (error) {
    throw wrapHostError(error, `change disk image ${path}`);
  } finally {
    await handle?.close();
  }
}

/** The L1 table fills one cluster of its own at most, so it grows in place; what comes in must read as zero. */
async function clearNewEntries(handle: FileHandle, header: Qcow2Header, l1Entries: number): Promise<void> {
  const added = Buffer.alloc((l1Entries - header.l1Entries) * 8);
  if (added.length > 0) await handle.write(added, 0, added.length, header.l1Offset + header.l1Entries * 8);
}
