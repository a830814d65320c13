/** Files that COPY takes: of a context, or of another image. They lie in one file; nothing of them is unpacked on the host. */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { posix } from 'node:path';
import { buildLimits } from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { ignoredBy, ignoreFile } from '../../base/docker-ignore.js';
import { readFully, writeFully } from '../../base/files.js';
import { fromText, showName } from '../../base/tar/names.js';
import { type TarEntry, TarReader } from '../../base/tar/reader.js';
import { type TarHeader, tarEnd, tarHeader, tarPadding } from '../../base/tar/writer.js';
import { Turns } from '../../base/turns.js';
import { CryoboxError } from '../../errors.js';

/** A file, a directory or a link, by its path without a slash at either end, a character for each byte. */
export interface SourceFile {
  readonly type: 'file' | 'directory' | 'symlink';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly modifiedSeconds: number;
  readonly linkName: string;
  /** Where its content begins in the file that holds all. */
  readonly offset: number;
  /** SHA-256 of its content, in hex; of a link, of where it leads. */
  readonly sha256: string;
}

/** A source that was found, and the path that it gets below the target; empty: that of the target itself. */
export interface Chosen {
  readonly file: SourceFile;
  readonly name: string;
}

const pieceBytes = 256 * 1024;

/** The files of one tar, indexed. */
export class SourceFiles implements AsyncDisposable {
  readonly #files = new Map<string, SourceFile>();
  readonly #handle: FileHandle;
  #end = 0;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** An empty collection that keeps contents in a file of its own at `path`. */
  static async open(path: string): Promise<SourceFiles> {
    return new SourceFiles(await open(path, 'wx+', 0o600));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  /**
   * Adds what is in a tar, below `prefix`. Throws `invalid_argument` for what is no tar, `payload_too_large` for more files or
   * bytes than are taken.
   */
  async add(tar: AsyncIterable<Uint8Array>, signal?: AbortSignal, prefix = ''): Promise<void> {
    const reader = new TarReader(tar, { invalid: 'invalid_argument', refused: 'invalid_argument' });
    const turns = new Turns();
    try {
      for (let entry = await reader.next(); entry; entry = await reader.next()) {
        throwIfCancelled(signal, 'the build of an image');
        const path = pathOf(`${prefix}/${entry.name}`);
        if (entry.type === 'link') {
          const target = this.#files.get(pathOf(`${prefix}/${entry.linkName}`));
          if (target) this.#files.set(path, target);
        } else if (path !== '') await this.#take(path, entry, reader);
        if (this.#files.size > buildLimits.contextEntries)
          throw tooLarge(`${buildLimits.contextEntries} files`);
        await turns.step();
      }
    } finally {
      await reader.close();
    }
  }

  async #take(path: string, entry: TarEntry, reader: TarReader): Promise<void> {
    const { type, mode, uid, gid, size } = entry;
    if (type !== 'file' && type !== 'directory' && type !== 'symlink') return;
    if (this.#end + size > buildLimits.contextBytes) throw tooLarge(`${buildLimits.contextBytes} bytes`);
    const hash = createHash('sha256').update(type === 'symlink' ? entry.linkName : '');
    const offset = this.#end;
    for (let bytes = await reader.read(); bytes; bytes = await reader.read()) {
      hash.update(bytes);
      await writeFully(this.#handle, bytes, this.#end);
      this.#end += bytes.length;
    }
    const modifiedSeconds = entry.modifiedAt.seconds;
    const sha256 = hash.digest('hex');
    const { linkName } = entry;
    this.#files.set(path, { type, mode, uid, gid, size, modifiedSeconds, linkName, offset, sha256 });
  }

  /** Takes a text out of it; undefined where there is no such file. Throws `payload_too_large`. */
  async take(path: string, limitBytes: number): Promise<string | undefined> {
    const text = await this.text(path, limitBytes);
    this.#files.delete(pathOf(fromText(path)));
    return text;
  }

  /** The text of a file; undefined where there is none. Throws `payload_too_large`. */
  async text(path: string, limitBytes: number): Promise<string | undefined> {
    const file = this.#files.get(pathOf(fromText(path)));
    if (file?.type !== 'file') return undefined;
    if (file.size > limitBytes) {
      throw new CryoboxError(
        'payload_too_large',
        `${path} has ${file.size} bytes, at most ${limitBytes} are read`,
      );
    }
    const bytes = Buffer.alloc(file.size);
    await readFully(this.#handle, bytes, file.offset);
    return bytes.toString();
  }

  /** Leaves out what the context's `.dockerignore` names. Throws `payload_too_large` for one over a megabyte. */
  async ignoreNamed(): Promise<void> {
    const rules = await this.text(ignoreFile, buildLimits.dockerfileBytes);
    if (rules === undefined) return;
    const isIgnored = ignoredBy(rules);
    for (const path of this.#files.keys()) if (isIgnored(path)) this.#files.delete(path);
  }

  /**
   * What COPY takes for its sources: of a directory what is in it, else the file with its name. Wildcards are `*`, `?` and
   * `[...]`, within one name. Throws `not_found` for a source that matches nothing.
   */
  choose(sources: readonly string[], target: string): Chosen[] {
    const found = sources.flatMap((source) => {
      const paths = this.#match(pathOf(fromText(source)));
      if (paths.length === 0) throw noSource(source);
      return paths;
    });
    const isDirectory = target.endsWith('/') || target.endsWith('/.') || found.length > 1;
    return found.flatMap((path) => {
      const file = this.#files.get(path);
      if (file && file.type !== 'directory') {
        return [{ file, name: isDirectory ? posix.basename(path) : '' }];
      }
      const inside = path === '' ? '' : `${path}/`;
      return [...this.#files]
        .filter(([name]) => name.startsWith(inside))
        .map(([name, each]) => ({ file: each, name: name.slice(inside.length) }));
    });
  }

  #match(pattern: string): string[] {
    if (pattern === '') return [''];
    const isPlain = !/[*?[]/.test(pattern);
    if (isPlain) {
      // A tar need not name the directories that its files are in.
      const isThere =
        this.#files.has(pattern) || [...this.#files.keys()].some((path) => path.startsWith(`${pattern}/`));
      return isThere ? [pattern] : [];
    }
    const matches = patternOf(pattern);
    const depth = pattern.split('/').length;
    const paths = [...this.#files.keys()].map((path) => path.split('/').slice(0, depth).join('/'));
    return [...new Set(paths)].filter((path) => matches.test(path)).sort();
  }

  /** Those files as a tar, with the owner and mode that are given. */
  async *pack(
    chosen: readonly Chosen[],
    as: (file: SourceFile) => Partial<TarHeader>,
  ): AsyncGenerator<Buffer> {
    for (const { file, name } of chosen) {
      const { type, mode, uid, gid, size, modifiedSeconds, linkName } = file;
      const header = { type, name: type === 'directory' ? `${name}/` : name, mode: mode & 0o7777, uid, gid };
      yield tarHeader({ ...header, size, modifiedSeconds, linkName, ...as(file) });
      for (let at = 0; at < size; at += pieceBytes) {
        const piece = Buffer.alloc(Math.min(pieceBytes, size - at));
        await readFully(this.#handle, piece, file.offset + at);
        yield piece;
      }
      if (size > 0) yield Buffer.from(tarPadding(size));
    }
    yield Buffer.from(tarEnd);
  }
}

/** A path without `.`, without leading and trailing slashes, that does not leave its root. */
function pathOf(name: string): string {
  return posix.normalize(`/${name}`).replace(/^\/+|\/+$/g, '');
}

function patternOf(pattern: string): RegExp {
  const source = pattern.replace(
    /\[(\^?)([^\]/]+)\]|[*?]|[\\^$.|+()[\]{}]/g,
    (part, not?: string, set?: string) => {
      if (part === '*') return '[^/]*';
      if (part === '?') return '[^/]';
      return set === undefined ? `\\${part}` : `[${not ?? ''}${set.replace(/\\/g, '\\\\')}]`;
    },
  );
  try {
    return new RegExp(`^${source}$`, 's');
  } catch (cause) {
    throw new CryoboxError('invalid_argument', `${showName(pattern)} is no pattern of names`, { cause });
  }
}

function noSource(source: string): CryoboxError {
  return new CryoboxError('not_found', `COPY: there is no ${JSON.stringify(source)} to copy`, {
    hint: 'Paths count from the context; look whether .dockerignore names it.',
    details: { path: source },
  });
}

function tooLarge(what: string): CryoboxError {
  return new CryoboxError('payload_too_large', `the files of the build are more than ${what}`, {
    hint: 'Name what is not needed in .dockerignore.',
  });
}
