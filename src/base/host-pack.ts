import type { Stats } from 'node:fs';
import { lstat, open, readdir, readlink, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { CryoboxError, errnoOf, wrapHostError } from '../errors.js';
import { fromBytes, fromText, showName, toBytes } from './tar/names.js';
import { type TarHeader, tarEnd, tarHeader, tarPadding } from './tar/writer.js';

/** How a tree of the host is packed. */
export interface HostPackOptions {
  /** Packs what symbolic links point at. @default false */
  readonly followSymlinks?: boolean;
  /** Whether a name in the tree, a binary string, is passed over, a directory with what is in it. @default none is */
  readonly skip?: (name: string, isDirectory: boolean) => boolean;
  /** Told of each part of a file as it is read. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** Deeper trees are made to break walkers; a box packs no deeper ones either. */
const maxDepth = 256;
const chunkBytes = 256 * 1024;

/** Directories that lie around an entry, the innermost first. */
interface Ancestor {
  readonly facts: Stats;
  readonly depth: number;
  readonly above: Ancestor | undefined;
}

/** What is still to be packed. Paths and names are binary strings. */
interface Pending {
  readonly path: string;
  readonly name: string;
  readonly above: Ancestor | undefined;
}

function headerOf(name: string, facts: Stats): Omit<TarHeader, 'type'> {
  const { mode, uid, gid, mtimeMs } = facts;
  return { name, mode: mode & 0o7777, uid, gid, modifiedSeconds: Math.floor(mtimeMs / 1000) };
}

/** Reads exactly what the header promised: a file may grow meanwhile, and its entry must not. */
async function* packFile(
  path: string,
  name: string,
  { signal, onBytes }: HostPackOptions,
): AsyncGenerator<Uint8Array> {
  const file = await open(toBytes(path), 'r');
  try {
    const facts = await file.stat();
    yield tarHeader({ ...headerOf(name, facts), type: 'file', size: facts.size });
    for (let left = facts.size; left > 0; ) {
      signal?.throwIfAborted();
      const buffer = Buffer.allocUnsafe(Math.min(left, chunkBytes));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) {
        throw new CryoboxError('storage_error', `${showName(path)} became shorter while it was read`);
      }
      left -= bytesRead;
      onBytes?.(bytesRead);
      yield buffer.subarray(0, bytesRead);
    }
    if (facts.size > 0) yield tarPadding(facts.size);
  } finally {
    await file.close();
  }
}

/** What lies in a directory, in byte order. */
async function childrenOf({ path, name, above }: Pending, facts: Stats): Promise<Pending[]> {
  for (let outer = above; outer; outer = outer.above) {
    if (outer.facts.ino === facts.ino && outer.facts.dev === facts.dev) {
      throw new CryoboxError('invalid_argument', `${showName(path)} leads back to a directory around it`, {
        hint: 'Copy the links themselves, without followSymlinks.',
      });
    }
  }
  const depth = (above?.depth ?? 0) + 1;
  const names = await readdir(toBytes(path), { encoding: 'buffer' });
  if (depth > maxDepth && names.length > 0) {
    throw new CryoboxError(
      'invalid_argument',
      `${showName(path)} is nested more than ${maxDepth} levels deep`,
    );
  }
  const inner: Ancestor = { facts, depth, above };
  return names.sort(Buffer.compare).map((bytes) => {
    const child = fromBytes(bytes);
    return { path: `${path}/${child}`, name: name === '.' ? child : `${name}/${child}`, above: inner };
  });
}

async function* packAll(path: string, options: HostPackOptions): AsyncGenerator<Uint8Array> {
  const factsOf = options.followSymlinks ? stat : lstat;
  const first = await factsOf(path);
  const pending: Pending[] = [
    { path: fromText(path), name: first.isDirectory() ? '.' : fromText(basename(path)), above: undefined },
  ];
  for (let next = pending.pop(); next; next = pending.pop()) {
    options.signal?.throwIfAborted();
    const { path, name } = next;
    const facts = await factsOf(toBytes(path));
    if (name !== '.' && options.skip?.(name, facts.isDirectory())) continue;
    if (facts.isSymbolicLink()) {
      const linkName = fromBytes(await readlink(toBytes(path), { encoding: 'buffer' }));
      yield tarHeader({ ...headerOf(name, facts), type: 'symlink', linkName });
    } else if (facts.isDirectory()) {
      yield tarHeader({ ...headerOf(`${name}/`, facts), type: 'directory' });
      for (const child of (await childrenOf(next, facts)).reverse()) pending.push(child);
    } else if (facts.isFile()) {
      yield* packFile(path, name, options);
    } else {
      throw new CryoboxError(
        'unsupported',
        `${showName(path)} is a device, pipe or socket, which is not copied`,
      );
    }
  }
  yield tarEnd;
}

/**
 * A file or tree of the host as a tar stream: a file as one entry with its name, a directory as `./` and what is in
 * it. Owner, mode, time and symbolic links are kept, names and where links lead as the bytes they are. Nothing is opened
 * before it is read, and all is closed when the reader stops. Fails with `not_found` where there is no such path,
 * `invalid_argument` for a tree that leads into itself or is more than 256 levels deep, `cancelled` on `signal`.
 */
export async function* packHostTree(
  path: string,
  options: HostPackOptions = {},
): AsyncGenerator<Uint8Array, void> {
  try {
    yield* packAll(path, options);
  } catch (error) {
    if (options.signal?.aborted) {
      throw new CryoboxError('cancelled', `Copying ${path} was cancelled`, { cause: error });
    }
    const missing = errnoOf(error) === 'ENOENT';
    throw wrapHostError(error, `Reading ${path}`, missing ? 'not_found' : 'storage_error');
  }
}
