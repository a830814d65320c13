import { constants } from 'node:fs';
import { chmod, lchown, link, lstat, lutimes, mkdir, open, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable, type Writable } from 'node:stream';
import { extract, type Header } from 'tar-stream';
import { CryoboxError, wrapHostError } from '../errors.js';
import { ifExists } from './files.js';
import { entrySegments, refuseLinkedParents } from './host-path.js';

/** How a tar is unpacked on the host. */
export interface HostUnpackOptions {
  /** Whether files that are there are replaced; false fails with `already_exists`. @default true */
  readonly overwrite?: boolean;
  /** Told of each part of a file as it is written. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** One entry of a tar as `tar-stream` gives it. */
type Entry = AsyncIterable<Uint8Array> & { readonly header: Header; resume(): void };

/** Of a mode, what is kept: a guest must not leave set-id programs on the host. */
const modeMask = 0o777;
/** Until the owner is right, nobody else reads it. */
const initialMode = 0o600;
const isRoot = process.getuid?.() === 0;

/** Removes what is in the way of an entry; never a directory. */
async function makeRoom(path: string, overwrite: boolean): Promise<void> {
  const existing = await ifExists(lstat(path));
  if (!existing) return;
  if (!overwrite) throw new CryoboxError('already_exists', `${path} exists`, { details: { path } });
  if (existing.isDirectory())
    throw new CryoboxError('already_exists', `${path} is a directory`, { details: { path } });
  await rm(path);
}

async function finish(path: string, entry: Entry): Promise<void> {
  const { uid, gid, mode, mtime, type } = entry.header;
  if (isRoot && uid !== undefined && gid !== undefined) await lchown(path, uid, gid);
  if (type !== 'symlink' && mode !== undefined) await chmod(path, mode & modeMask);
  if (mtime) await lutimes(path, mtime, mtime);
}

async function writeContent(path: string, entry: Entry, options: HostUnpackOptions): Promise<number> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await open(path, flags, initialMode);
  let bytes = 0;
  try {
    for await (const chunk of entry) {
      options.signal?.throwIfAborted();
      await file.writeFile(chunk);
      bytes += chunk.length;
      options.onBytes?.(chunk.length);
    }
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return bytes;
}

/** Unpacks the entries of one tar. */
class Unpacker {
  readonly #destination: string;
  readonly #options: HostUnpackOptions;
  /** Where entries go; null until the first entry told. */
  #root: string | null = null;
  /** Times of directories change while they are filled, so they are set last. */
  readonly #directories: { path: string; entry: Entry }[] = [];
  entries = 0;
  bytes = 0;

  constructor(destination: string, options: HostUnpackOptions) {
    this.#destination = destination;
    this.#options = options;
  }

  async add(entry: Entry): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const path = await this.#pathOf(entry);
    const { type, linkname } = entry.header;
    const overwrite = this.#options.overwrite ?? true;
    if (type === 'directory') return this.#directory(path, entry);
    await mkdir(dirname(path), { recursive: true });
    await makeRoom(path, overwrite);
    if (type === 'file' || type === 'contiguous-file')
      this.bytes += await writeContent(path, entry, this.#options);
    else if (type === 'symlink') await symlink(linkname ?? '', path);
    else if (type === 'link') await this.#hardLink(path, linkname ?? '');
    else
      throw new CryoboxError('unsupported', `${entry.header.name} is a device or pipe, which is not copied`);
    if (type !== 'link') await finish(path, entry);
    entry.resume();
    this.entries += 1;
  }

  async end(): Promise<void> {
    for (const { path, entry } of this.#directories.reverse()) await finish(path, entry);
  }

  async #directory(path: string, entry: Entry): Promise<void> {
    const existing = await ifExists(lstat(path));
    if (existing && !existing.isDirectory()) await makeRoom(path, this.#options.overwrite ?? true);
    await mkdir(path, { recursive: true });
    this.#directories.push({ path, entry });
    entry.resume();
    this.entries += 1;
  }

  async #hardLink(path: string, target: string): Promise<void> {
    const root = this.#root ?? this.#destination;
    const segments = entrySegments(target);
    await refuseLinkedParents(root, segments);
    await link(join(root, ...segments), path);
  }

  /** One file, not a tree, is written as the destination, or into it when that is a directory. */
  async #pathOf(entry: Entry): Promise<string> {
    const segments = entrySegments(entry.header.name);
    if (this.#root === null) {
      const destination = await ifExists(stat(this.#destination));
      const tree = entry.header.type === 'directory' || destination?.isDirectory() === true;
      this.#root = this.#destination;
      if (!tree && this.entries === 0 && segments.length === 1 && !this.#destination.endsWith('/')) {
        this.#root = dirname(this.#destination);
        return this.#destination;
      }
    }
    await refuseLinkedParents(this.#root, segments);
    return join(this.#root, ...segments);
  }
}

async function unpackEntries(entries: AsyncIterable<Entry>, unpacker: Unpacker): Promise<void> {
  for await (const entry of entries) await unpacker.add(entry);
  await unpacker.end();
}

/**
 * Unpacks a tar on the host: a tree into `destination`, one file as `destination` (or into it, when it is a
 * directory or ends in `/`). Trusts nothing: entries cannot leave the tree, neither by name nor through links, no
 * device is made and no set-id bit kept. The owner is kept when this process is root.
 */
export async function unpackHostTree(
  tar: AsyncIterable<Uint8Array>,
  destination: string,
  options: HostUnpackOptions = {},
): Promise<{ entries: number; bytes: number }> {
  const unpacker = new Unpacker(destination, options);
  const entries = extract() as unknown as Writable & AsyncIterable<Entry>;
  const source = Readable.from(tar, { objectMode: false });
  source.once('error', (error) => entries.destroy(error));
  source.pipe(entries);
  try {
    await unpackEntries(entries, unpacker);
  } catch (error) {
    source.destroy();
    if (options.signal?.aborted) {
      throw new CryoboxError('cancelled', `Copying to ${destination} was cancelled`, { cause: error });
    }
    // What no system call reports is the tar's own fault.
    const ofHost = error instanceof Error && 'syscall' in error;
    throw wrapHostError(error, `Unpacking to ${destination}`, ofHost ? 'storage_error' : 'archive_invalid');
  }
  return { entries: unpacker.entries, bytes: unpacker.bytes };
}
