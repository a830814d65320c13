import { posix } from 'node:path';
import type { Box, FileInfo } from '../api/index.js';
import { CryoboxError, isCryoboxError } from '../errors.js';
import type { Account } from './account.js';
import { sshLimits } from './limits.js';
import type { GivenAttributes } from './sftp-attributes.js';
import { Spool } from './spool.js';

/** What is taken from the rights of new files and directories, as servers of OpenSSH do by default. */
const umask = 0o022;

/** The files of a box by the words of a file transfer: as root, and what is new belongs to the account. */
export class BoxFiles {
  readonly #box: Box;
  readonly #account: Account;
  readonly #signal: AbortSignal;

  constructor(box: Box, account: Account, signal: AbortSignal) {
    this.#box = box;
    this.#account = account;
    this.#signal = signal;
  }

  /** A path as clients mean it: relative ones begin in the account's home directory. */
  absolute(path: string): string {
    return path.startsWith('/') ? path : posix.join(this.#account.home, path);
  }

  /** The same without `.` and `..`. */
  normalized(path: string): string {
    return posix.resolve(this.#account.home, path);
  }

  /** What is at a path, a link itself. Throws `not_found`. */
  async lstat(path: string): Promise<FileInfo> {
    const info = await this.find(path);
    if (info) return info;
    throw new CryoboxError('not_found', `there is no ${path}`);
  }

  /** What is at a path, or null. */
  async find(path: string): Promise<FileInfo | null> {
    return await this.#box.files.stat(path, { signal: this.#signal });
  }

  /** What a path leads to, through links. Throws `not_found`. */
  async stat(path: string): Promise<FileInfo> {
    const info = await this.findFollowed(path);
    if (info) return info;
    throw new CryoboxError('not_found', `there is no ${path}`);
  }

  /** What a path leads to, or null. */
  async findFollowed(path: string): Promise<FileInfo | null> {
    let at = path;
    for (let links = 0; links < sshLimits.links; links += 1) {
      const info = await this.find(at);
      if (info?.type !== 'symlink' || info.linkTarget === undefined) return info;
      const { linkTarget } = info;
      // Not joined: `..` after a directory that is a link itself is the kernel's to resolve.
      at = linkTarget.startsWith('/') ? linkTarget : `${posix.dirname(at)}/${linkTarget}`;
    }
    throw new CryoboxError('invalid_argument', `${path} leads through too many links`);
  }

  /** Entries of a directory. */
  async list(path: string): Promise<FileInfo[]> {
    return await this.#box.files.list(path, { signal: this.#signal });
  }

  /** The content of a file. */
  async read(path: string): Promise<AsyncIterable<Uint8Array>> {
    return await this.#box.files.readStream(path, { signal: this.#signal });
  }

  /** Replaces a file as a whole; a new one belongs to the account. */
  async write(
    path: string,
    content: AsyncIterable<Uint8Array>,
    { isNew, mode }: { readonly isNew: boolean; readonly mode: number | undefined },
  ): Promise<void> {
    const { uid, gid } = this.#account;
    const rights = mode === undefined ? {} : { mode: mode & 0o7777 };
    const owner = isNew ? { owner: { uid, gid } } : {};
    await this.#box.files.write(path, content, { ...rights, ...owner, signal: this.#signal });
  }

  /** Makes a directory in one that is there. */
  async makeDirectory(path: string, { mode = 0o777 }: GivenAttributes): Promise<void> {
    await this.refuseExisting(path);
    await this.requireDirectory(posix.dirname(path));
    const { uid, gid } = this.#account;
    await this.#box.files.makeDirectory(path, { owner: { uid, gid }, signal: this.#signal });
    const rights = mode & 0o7777 & ~umask;
    if (rights !== (0o777 & ~umask)) await this.setAttributes(path, { mode: rights });
  }

  /** Removes a file or link, or with `directory` an empty directory. */
  async remove(path: string, { directory }: { readonly directory: boolean }): Promise<void> {
    const { type } = await this.lstat(path);
    if ((type === 'directory') !== directory) {
      throw new CryoboxError('invalid_argument', `${path} is ${directory ? 'no' : 'a'} directory`);
    }
    await this.#box.files.remove(path, { signal: this.#signal });
  }

  /** Gives a file another path, where nothing is. */
  async rename(from: string, to: string): Promise<void> {
    await this.#box.files.rename(from, to, { overwrite: false, signal: this.#signal });
  }

  /** Makes a symbolic link where nothing is. */
  async link(path: string, target: string): Promise<void> {
    await this.refuseExisting(path);
    const { uid, gid } = this.#account;
    await this.#run('ln', '-s', '--', target, path);
    await this.#run('chown', '-h', `${uid}:${gid}`, '--', path);
  }

  /** Sets what is given: by commands of the box, but its size. */
  async setAttributes(path: string, { size, mode, uid, gid, atime, mtime }: GivenAttributes): Promise<void> {
    if (size !== undefined) await this.#resize(path, size);
    if (uid !== undefined && gid !== undefined) await this.#run('chown', `${uid}:${gid}`, '--', path);
    if (mode !== undefined) await this.#run('chmod', (mode & 0o7777).toString(8), '--', path);
    if (mtime !== undefined) await this.#run('touch', '-c', '-m', '-d', `@${mtime}`, '--', path);
    if (atime !== undefined) await this.#run('touch', '-c', '-a', '-d', `@${atime}`, '--', path);
  }

  /** Rights of a new file for which a client asks for some, or for none. */
  newMode(mode: number | undefined): number {
    return (mode ?? 0o666) & 0o7777 & ~umask;
  }

  /** Throws `already_exists` when something is at a path. */
  async refuseExisting(path: string): Promise<void> {
    if (await this.find(path)) throw new CryoboxError('already_exists', `${path} is there already`);
  }

  /** Throws `not_found` unless a directory is at a path. */
  async requireDirectory(path: string): Promise<void> {
    if ((await this.findFollowed(path))?.type === 'directory') return;
    throw new CryoboxError('not_found', `there is no directory ${path}`);
  }

  async #resize(path: string, size: number): Promise<void> {
    const spool = await Spool.open(await this.read(path));
    try {
      await spool.truncate(size);
      await this.write(path, spool.content(), { isNew: false, mode: undefined });
    } finally {
      await spool.close();
    }
  }

  async #run(...words: readonly string[]): Promise<void> {
    const signal = this.#signal;
    try {
      const { exitCode, stderr } = await this.#box.exec(words, { cwd: '/', user: '0:0', signal });
      if (exitCode === 0) return;
      throw new CryoboxError('execution_failed', stderr.trim() || `${words[0]} ended with ${exitCode}`);
    } catch (error) {
      if (!isCryoboxError(error, 'command_not_found')) throw error;
      throw new CryoboxError('unsupported', `the box has no ${words[0]}`, { cause: error });
    }
  }
}
