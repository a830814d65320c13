import { constants } from 'node:fs';
import { chmod, lchown, link, lstat, lutimes, mkdir, open, stat, symlink, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CryoboxError, wrapHostError } from '../errors.js';
import { ifExists } from './files.js';
import { entrySegments, refuseLinkedParents } from './host-path.js';
import { fromText, showName, toBytes } from './tar/names.js';
import { type TarEntry, TarReader } from './tar/reader.js';

/** How a tar is unpacked on the host. */
export interface HostUnpackOptions {
  /** Whether files that are there are replaced; false fails with `already_exists`. @default true */
  readonly overwrite?: boolean;
  /** Told of each part of a file as it is written. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** Of a mode, what is kept: a guest must not leave set-id programs on the host. */
const modeMask = 0o777;
/** Until the owner is right, nobody else reads it. */
const initialMode = 0o600;
const isRoot = process.getuid?.() === 0;

/** Removes what is in the way of an entry; never a directory. */
async function makeRoom(path: string, overwrite: boolean): Promise<void> {
  const existing = await ifExists(lstat(toBytes(path)));
  if (!existing) return;
  const details = { path: toBytes(path).toString() };
  if (!overwrite) throw new CryoboxError('already_exists', `${details.path} exists`, { details });
  if (existing.isDirectory())
    throw new CryoboxError('already_exists', `${details.path} is a directory`, { details });
  await unlink(toBytes(path));
}

async function finish(path: string, { uid, gid, mode, modifiedAt, type }: TarEntry): Promise<void> {
  const bytes = toBytes(path);
  if (isRoot) await lchown(bytes, uid, gid);
  if (type !== 'symlink') await chmod(bytes, mode & modeMask);
  const time = modifiedAt.seconds + modifiedAt.nanoseconds / 1e9;
  await lutimes(bytes, time, time);
}

/** Writes the content of the entry that `tar` is at. */
async function writeContent(path: string, tar: TarReader, options: HostUnpackOptions): Promise<number> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await open(toBytes(path), flags, initialMode);
  let bytes = 0;
  try {
    for (let chunk = await tar.read(); chunk; chunk = await tar.read()) {
      options.signal?.throwIfAborted();
      await file.writeFile(chunk);
      bytes += chunk.length;
      options.onBytes?.(chunk.length);
    }
  } catch (error) {
    await ifExists(unlink(toBytes(path)));
    throw error;
  } finally {
    await file.close();
  }
  return bytes;
}

/** Unpacks the entries of one tar. Paths are binary strings. */
class Unpacker {
  readonly #destination: string;
  readonly #options: HostUnpackOptions;
  /** Where entries go; null until the first entry told. */
  #root: string | null = null;
  /** One file was written as the destination itself: then there is no directory for anything else. */
  #renamed = false;
  /** Times of directories change while they are filled, so they are set last. */
  readonly #directories: { path: string; entry: TarEntry }[] = [];
  entries = 0;
  bytes = 0;

  constructor(destination: string, options: HostUnpackOptions) {
    this.#destination = fromText(destination);
    this.#options = options;
  }

  async add(entry: TarEntry, tar: TarReader): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const path = await this.#pathOf(entry);
    const { type, linkName } = entry;
    const overwrite = this.#options.overwrite ?? true;
    if (type === 'directory') return this.#directory(path, entry);
    await mkdir(toBytes(dirname(path)), { recursive: true });
    await makeRoom(path, overwrite);
    if (type === 'file') this.bytes += await writeContent(path, tar, this.#options);
    else if (type === 'symlink') await symlink(toBytes(linkName), toBytes(path));
    else if (type === 'link') await this.#hardLink(path, linkName);
    else
      throw new CryoboxError(
        'unsupported',
        `${showName(entry.name)} is a device or pipe, which is not copied`,
      );
    if (type !== 'link') await finish(path, entry);
    this.entries += 1;
  }

  async end(): Promise<void> {
    for (const { path, entry } of this.#directories.reverse()) await finish(path, entry);
  }

  async #directory(path: string, entry: TarEntry): Promise<void> {
    const existing = await ifExists(lstat(toBytes(path)));
    if (existing && !existing.isDirectory()) await makeRoom(path, this.#options.overwrite ?? true);
    await mkdir(toBytes(path), { recursive: true });
    this.#directories.push({ path, entry });
    this.entries += 1;
  }

  async #hardLink(path: string, target: string): Promise<void> {
    const segments = entrySegments(target);
    if (this.#root === null || this.#renamed) {
      throw new CryoboxError(
        'archive_invalid',
        `A tar of one file links to ${showName(target)} outside of it`,
      );
    }
    await refuseLinkedParents(this.#root, segments);
    const existing = join(this.#root, ...segments);
    const facts = await ifExists(lstat(toBytes(existing)));
    if (!facts || facts.isDirectory()) {
      throw new CryoboxError(
        'archive_invalid',
        `A tar entry links to ${showName(existing)}, which is no file`,
      );
    }
    await link(toBytes(existing), toBytes(path));
  }

  /** One file, not a tree, is written as the destination, or into it when that is a directory. */
  async #pathOf(entry: TarEntry): Promise<string> {
    const { name, type } = entry;
    if (this.#renamed) {
      throw new CryoboxError('archive_invalid', `A tar of one file goes on with ${showName(name)}`);
    }
    const segments = entrySegments(name);
    if (segments.length === 0 && type !== 'directory') {
      throw new CryoboxError('archive_invalid', `A tar entry has no name of its own: ${showName(name)}`);
    }
    if (this.#root === null) {
      const destination = await ifExists(stat(toBytes(this.#destination)));
      this.#root = this.#destination;
      const tree = type === 'directory' || destination?.isDirectory() || this.#destination.endsWith('/');
      if (!tree && segments.length === 1) {
        this.#renamed = true;
        return this.#destination;
      }
    }
    await refuseLinkedParents(this.#root, segments);
    return join(this.#root, ...segments);
  }
}

/** With which codes a tar is refused. */
const faults = { invalid: 'archive_invalid', refused: 'unsupported' } as const;

/** The tar is read to its end, so that whoever makes it hears that it was taken. */
async function unpackEntries(tar: TarReader, unpacker: Unpacker): Promise<void> {
  for (let entry = await tar.next(); entry; entry = await tar.next()) await unpacker.add(entry, tar);
  await unpacker.end();
  await tar.drain();
}

/**
 * Unpacks a tar on the host: a tree into `destination`, one file as `destination` (or into it, when it is a
 * directory or ends in `/`). Trusts nothing: entries cannot leave the tree, neither by name nor through links, no
 * device is made and no set-id bit kept. Names and where links lead are kept as the bytes they are, the owner when this
 * process is root. Fails with `archive_invalid`, `unsupported` for a device or a sparse file, `already_exists`,
 * `cancelled` on `signal`, `storage_error` when the host refuses a file or its name.
 */
export async function unpackHostTree(
  tar: AsyncIterable<Uint8Array>,
  destination: string,
  options: HostUnpackOptions = {},
): Promise<{ entries: number; bytes: number }> {
  const unpacker = new Unpacker(destination, options);
  const reader = new TarReader(tar, faults);
  try {
    await unpackEntries(reader, unpacker);
  } catch (error) {
    // Why it ended is known already.
    await reader.close().catch(() => undefined);
    if (options.signal?.aborted) {
      throw new CryoboxError('cancelled', `Copying to ${destination} was cancelled`, { cause: error });
    }
    // What no system call reports is the tar's own fault.
    const ofHost = error instanceof Error && 'syscall' in error;
    throw wrapHostError(error, `Unpacking to ${destination}`, ofHost ? 'storage_error' : 'archive_invalid');
  }
  return { entries: unpacker.entries, bytes: unpacker.bytes };
}
