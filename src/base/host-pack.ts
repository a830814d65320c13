import type { Stats } from 'node:fs';
import { type FileHandle, lstat, open, readdir, readlink, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Header, type Pack, pack } from 'tar-stream';
import { CryoboxError, wrapHostError } from '../errors.js';

/** How a tree of the host is packed. */
export interface HostPackOptions {
  /** Packs what symbolic links point at. @default false */
  readonly followSymlinks?: boolean;
  /** Told of each part of a file as it is read. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** Deeper trees are loops of links, or made to break walkers. */
const maxDepth = 256;
const chunkBytes = 256 * 1024;

type EntryHeader = Partial<Header> & Pick<Header, 'name'>;

function headerOf(name: string, facts: Stats): EntryHeader {
  return { name, mode: facts.mode & 0o7777, uid: facts.uid, gid: facts.gid, mtime: facts.mtime };
}

/** Resolves when there is room; a destroyed tar never drains, but closes. */
async function write(entry: NodeJS.WritableStream, chunk: Uint8Array): Promise<void> {
  if (entry.write(chunk)) return;
  await new Promise<void>((resolve) => {
    const go = (): void => {
      entry.removeListener('drain', go);
      entry.removeListener('close', go);
      resolve();
    };
    entry.once('drain', go);
    entry.once('close', go);
  });
}

/** Reads exactly what the header promised: a file may grow meanwhile, and its entry must not. */
async function packContent(
  to: Pack,
  name: string,
  facts: Stats,
  file: FileHandle,
  options: HostPackOptions,
): Promise<void> {
  let finish: (error?: Error | null) => void = () => undefined;
  const finished = new Promise<void>((resolve, reject) => {
    finish = (error) => (error ? reject(error) : resolve());
  });
  const header: EntryHeader = { ...headerOf(name, facts), type: 'file', size: facts.size };
  const entry = to.entry(header, (error) => finish(error)) as unknown as NodeJS.WritableStream;
  finished.catch(() => undefined);
  let left = facts.size;
  while (left > 0) {
    options.signal?.throwIfAborted();
    if (isDestroyed(to)) throw new CryoboxError('cancelled', `Nobody reads the copy of ${name} any more`);
    const buffer = Buffer.allocUnsafe(Math.min(left, chunkBytes));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) throw new CryoboxError('storage_error', `${name} became shorter while it was read`);
    await write(entry, buffer.subarray(0, bytesRead));
    left -= bytesRead;
    options.onBytes?.(bytesRead);
  }
  entry.end();
  await finished;
}

function isDestroyed(tar: Pack): boolean {
  return (tar as unknown as { destroyed: boolean }).destroyed;
}

async function packFile(to: Pack, path: string, name: string, options: HostPackOptions): Promise<void> {
  const file = await open(path, 'r');
  try {
    await packContent(to, name, await file.stat(), file, options);
  } finally {
    await file.close();
  }
}

function packBare(to: Pack, header: EntryHeader): Promise<void> {
  return new Promise((resolve, reject) => {
    to.entry(header, (error) => (error ? reject(error) : resolve()));
  });
}

async function packPath(
  to: Pack,
  path: string,
  name: string,
  depth: number,
  options: HostPackOptions,
): Promise<void> {
  if (depth > maxDepth) {
    throw new CryoboxError('invalid_argument', `${path} is nested more than ${maxDepth} levels deep`);
  }
  options.signal?.throwIfAborted();
  const facts = await (options.followSymlinks ? stat(path) : lstat(path));
  if (facts.isSymbolicLink()) {
    await packBare(to, { ...headerOf(name, facts), type: 'symlink', linkname: await readlink(path) });
  } else if (facts.isDirectory()) {
    await packBare(to, { ...headerOf(`${name}/`, facts), type: 'directory' });
    for (const child of (await readdir(path)).sort()) {
      await packPath(to, join(path, child), name === '.' ? child : `${name}/${child}`, depth + 1, options);
    }
  } else if (facts.isFile()) {
    await packFile(to, path, name, options);
  } else {
    throw new CryoboxError('unsupported', `${path} is a device, pipe or socket, which is not copied`);
  }
}

/**
 * A file or tree of the host as a tar stream: a file as one entry with its name, a directory as `./` and what is in
 * it. Owner, mode, time and symbolic links are kept. The stream fails with `not_found` where there is no such path.
 */
export function packHostTree(path: string, options: HostPackOptions = {}): AsyncIterable<Uint8Array> {
  const to = pack();
  const walk = async (): Promise<void> => {
    const facts = await (options.followSymlinks ? stat(path) : lstat(path));
    await packPath(to, path, facts.isDirectory() ? '.' : basename(path), 0, options);
    to.finalize();
  };
  walk().catch((error: unknown) => {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    (to as unknown as { destroy(error: Error): void }).destroy(
      options.signal?.aborted
        ? new CryoboxError('cancelled', `Copying ${path} was cancelled`, { cause: error })
        : wrapHostError(error, `Reading ${path}`, missing ? 'not_found' : 'storage_error'),
    );
  });
  return to as unknown as AsyncIterable<Uint8Array>;
}
