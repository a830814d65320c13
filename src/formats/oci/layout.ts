/** Files of an image on disk, whatever holds them: a directory or a tar archive. */
import { createReadStream } from 'node:fs';
import { lstat, open, readFile, realpath, stat } from 'node:fs/promises';
import { join, posix, sep } from 'node:path';
import { readFully } from '../../base/files.js';
import { showName } from '../../base/tar/names.js';
import { TarReader } from '../../base/tar/reader.js';
import { CryoboxError, errnoOf } from '../../errors.js';

const chunkBytes = 256 * 1024;
/** An archive of 127 layers has a few files for each; more would only fill memory. */
const maxArchiveFiles = 10_000;
/** Links docker writes for a layer that occurs twice point at a file, not at links. */
const maxLinkDepth = 4;

/** Read-only access to the files of an image layout or archive by relative path. */
export interface ImageFiles {
  /** What a message calls it. */
  readonly name: string;
  /** Whether a file is there. */
  has(path: string): Promise<boolean>;
  /** A small file as a whole. Throws `image_invalid` when it is missing, `image_refused` when longer than `limitBytes`. */
  read(path: string, limitBytes: number): Promise<Buffer>;
  /** A file's bytes from an offset on. Throws `image_invalid` when it is missing. */
  open(path: string, offset: number, signal?: AbortSignal): Promise<AsyncIterable<Buffer>>;
}

/** The files of a directory. Symlinks are followed only within it. */
class DirectoryFiles implements ImageFiles {
  readonly name: string;

  constructor(directory: string) {
    this.name = directory;
  }

  async has(path: string): Promise<boolean> {
    return (await this.#locate(path)) !== undefined;
  }

  async read(path: string, limitBytes: number): Promise<Buffer> {
    const { file, size } = await this.#need(path);
    if (size > limitBytes) throw tooLong(this.name, path, limitBytes);
    return await readFile(file);
  }

  async open(path: string, offset: number, signal?: AbortSignal): Promise<AsyncIterable<Buffer>> {
    const { file } = await this.#need(path);
    return createReadStream(file, { start: offset, highWaterMark: chunkBytes, signal });
  }

  async #need(path: string): Promise<{ file: string; size: number }> {
    const found = await this.#locate(path);
    if (!found) throw missing(this.name, path);
    return found;
  }

  async #locate(path: string): Promise<{ file: string; size: number } | undefined> {
    try {
      const root = await realpath(this.name);
      const file = await realpath(join(root, path));
      const facts = await lstat(file);
      return file.startsWith(root + sep) && facts.isFile() ? { file, size: facts.size } : undefined;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
      throw error;
    }
  }
}

type ArchiveMember = { readonly offset: number; readonly size: number } | { readonly target: string };

/** The files of an uncompressed tar archive, read where they lie. */
class ArchiveFiles implements ImageFiles {
  readonly name: string;
  readonly #members: ReadonlyMap<string, ArchiveMember>;

  private constructor(path: string, members: ReadonlyMap<string, ArchiveMember>) {
    this.name = path;
    this.#members = members;
  }

  /** Reads the archive once and remembers where each file lies. Throws `image_invalid`, `image_refused`. */
  static async open(path: string, signal?: AbortSignal): Promise<ArchiveFiles> {
    const source = createReadStream(path, { highWaterMark: chunkBytes, signal });
    const tar = new TarReader(source as AsyncIterable<Buffer>);
    const members = new Map<string, ArchiveMember>();
    try {
      for (let entry = await tar.next(); entry; entry = await tar.next()) {
        const name = posix.normalize(entry.name);
        if (entry.type === 'file') members.set(name, { offset: tar.offset, size: entry.size });
        else if (entry.type === 'symlink')
          members.set(name, { target: posix.join(posix.dirname(name), entry.linkName) });
        else if (entry.type === 'link') members.set(name, { target: posix.normalize(entry.linkName) });
        if (members.size > maxArchiveFiles) {
          throw new CryoboxError(
            'image_refused',
            `${path} holds more than ${maxArchiveFiles} files; an image archive has a few for each layer`,
          );
        }
      }
    } finally {
      await tar.close();
    }
    return new ArchiveFiles(path, members);
  }

  has(path: string): Promise<boolean> {
    return Promise.resolve(this.#locate(path) !== undefined);
  }

  async read(path: string, limitBytes: number): Promise<Buffer> {
    const { offset, size } = this.#need(path);
    if (size > limitBytes) throw tooLong(this.name, path, limitBytes);
    const handle = await open(this.name, 'r');
    try {
      const buffer = Buffer.alloc(size);
      if ((await readFully(handle, buffer, offset)) < size) throw missing(this.name, path);
      return buffer;
    } finally {
      await handle.close();
    }
  }

  open(path: string, offset: number, signal?: AbortSignal): Promise<AsyncIterable<Buffer>> {
    const member = this.#need(path);
    const start = member.offset + offset;
    const end = member.offset + member.size - 1;
    if (start > end) return Promise.resolve(noBytes());
    return Promise.resolve(createReadStream(this.name, { start, end, highWaterMark: chunkBytes, signal }));
  }

  #need(path: string): { offset: number; size: number } {
    const found = this.#locate(path);
    if (!found) throw missing(this.name, path);
    return found;
  }

  #locate(path: string): { offset: number; size: number } | undefined {
    let name = posix.normalize(path);
    for (let depth = 0; depth < maxLinkDepth; depth += 1) {
      const member = this.#members.get(name);
      if (!member || 'offset' in member) return member;
      name = member.target;
    }
    return undefined;
  }
}

/** Opens a layout directory, or an archive that is not compressed. Throws `invalid_argument` when there is nothing. */
export async function openImageFiles(path: string, signal?: AbortSignal): Promise<ImageFiles> {
  try {
    return (await stat(path)).isDirectory()
      ? new DirectoryFiles(path)
      : await ArchiveFiles.open(path, signal);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new CryoboxError('invalid_argument', `there is no image layout or archive at ${path}`, {
      cause: error,
    });
  }
}

async function* noBytes(): AsyncGenerator<Buffer> {}

function missing(name: string, path: string): CryoboxError {
  return new CryoboxError('image_invalid', `${name} has no file ${showName(path)}, which the image names`);
}

function tooLong(name: string, path: string, limit: number): CryoboxError {
  return new CryoboxError('image_refused', `${showName(path)} in ${name} has more than ${limit} bytes`);
}
