import { posix } from 'node:path';
import type { FileEntry } from 'ssh2';
import type { FileInfo } from '../api/index.js';
import { Mutex } from '../base/mutex.js';
import { CryoboxError } from '../errors.js';
import type { BoxFiles } from './box-files.js';
import { sshLimits } from './limits.js';
import { attributesOf, entryOf, type GivenAttributes } from './sftp-attributes.js';
import { Spool } from './spool.js';

/** Flags of an open (draft-ietf-secsh-filexfer-02, 6.3). */
const flag = { write: 2, append: 4, create: 8, truncate: 16, exclusive: 32 } as const;

/** Something a client has open; its requests come one after the other. */
export interface Handle {
  readonly turn: Mutex;
  /** Makes what was written true. */
  close(): Promise<void>;
  /** Lets go of it: what was written is dropped. */
  drop(): Promise<void>;
}

/** A directory that is read. */
export class OpenDirectory implements Handle {
  readonly turn = new Mutex();
  #entries: FileInfo[];

  private constructor(entries: FileInfo[]) {
    this.#entries = entries;
  }

  /** Throws `not_found`, `invalid_argument`. */
  static async open(files: BoxFiles, path: string): Promise<OpenDirectory> {
    return new OpenDirectory(await files.list(path));
  }

  /** The next entries; none at the end. */
  next(): FileEntry[] {
    return this.#entries.splice(0, sshLimits.names).map((info) => entryOf(posix.basename(info.path), info));
  }

  async close(): Promise<void> {
    this.#entries = [];
  }

  async drop(): Promise<void> {
    await this.close();
  }
}

/** A file that is read or written: what is written reaches the box as a whole, when the file is closed. */
export class OpenFile implements Handle {
  readonly turn = new Mutex();
  readonly #files: BoxFiles;
  readonly #path: string;
  readonly #spool: Spool;
  readonly #flags: number;
  readonly #isNew: boolean;
  #mode: number | undefined;
  #later: GivenAttributes = {};
  #isDirty: boolean;

  private constructor(files: BoxFiles, path: string, spool: Spool, flags: number, isNew: boolean) {
    this.#files = files;
    this.#path = path;
    this.#spool = spool;
    this.#flags = flags;
    this.#isNew = isNew;
    this.#isDirty = isNew || (flags & flag.truncate) !== 0;
  }

  /** Throws `not_found`, `already_exists`, `invalid_argument`, and what the temporary file fails with. */
  static async open(
    files: BoxFiles,
    path: string,
    flags: number,
    { mode }: GivenAttributes,
  ): Promise<OpenFile> {
    const has = (bit: number): boolean => (flags & bit) !== 0;
    const info = await files.findFollowed(path);
    if (info?.type === 'directory') throw new CryoboxError('invalid_argument', `${path} is a directory`);
    if (info && has(flag.create) && has(flag.exclusive)) await files.refuseExisting(path);
    if (!info) {
      if (!has(flag.create)) throw new CryoboxError('not_found', `there is no ${path}`);
      await files.requireDirectory(posix.dirname(path));
    }
    const isEmpty = !info || (has(flag.truncate) && has(flag.write));
    const spool = await Spool.open(isEmpty ? undefined : await files.read(path));
    const open = new OpenFile(files, path, spool, has(flag.write) ? flags : 0, !info);
    if (!info) open.#mode = files.newMode(mode);
    return open;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    return await this.#spool.read(offset, Math.min(length, sshLimits.readBytes));
  }

  async write(offset: number, bytes: Buffer): Promise<void> {
    if ((this.#flags & flag.write) === 0) {
      throw new CryoboxError('permission_denied', `${this.#path} was not opened for writing`);
    }
    this.#isDirty = true;
    await this.#spool.write((this.#flags & flag.append) === 0 ? offset : await this.#spool.size(), bytes);
  }

  async attributes(): Promise<ReturnType<typeof attributesOf>> {
    const info = await this.#files.findFollowed(this.#path);
    const now = new Date();
    const known: FileInfo = info ?? {
      path: this.#path,
      type: 'file',
      sizeBytes: 0,
      mode: this.#mode ?? 0,
      uid: 0,
      gid: 0,
      modifiedAt: now,
    };
    return attributesOf(this.#isDirty ? { ...known, sizeBytes: await this.#spool.size() } : known);
  }

  /** Of a file that is being written: when it is closed. */
  async setAttributes({ size, mode, ...others }: GivenAttributes): Promise<void> {
    if (!this.#isDirty) {
      await this.#files.setAttributes(this.#path, { size, mode, ...others });
      return;
    }
    if (size !== undefined) await this.#spool.truncate(size);
    if (mode !== undefined) this.#mode = mode;
    this.#later = { ...this.#later, ...others };
  }

  async close(): Promise<void> {
    try {
      if (!this.#isDirty) return;
      const how = { isNew: this.#isNew, mode: this.#mode };
      await this.#files.write(this.#path, this.#spool.content(), how);
      await this.#files.setAttributes(this.#path, this.#later);
    } finally {
      await this.#spool.close();
    }
  }

  async drop(): Promise<void> {
    await this.#spool.close();
  }
}
