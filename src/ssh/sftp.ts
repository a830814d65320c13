import { once, setMaxListeners } from 'node:events';
import ssh2, { type Attributes, type SFTPWrapper } from 'ssh2';
import type { Box } from '../api/index.js';
import { CryoboxError, type ErrorCode, isCryoboxError, messageOf } from '../errors.js';
import type { Account } from './account.js';
import { BoxFiles } from './box-files.js';
import { sshLimits } from './limits.js';
import { attributesOf } from './sftp-attributes.js';
import { type Handle, OpenDirectory, OpenFile } from './sftp-handles.js';

const { STATUS_CODE: code } = ssh2.utils.sftp;

/** What version 3 of the protocol can say of an error; all others are failures with a message. */
const statusOf: Readonly<Partial<Record<ErrorCode, number>>> = {
  not_found: code.NO_SUCH_FILE,
  permission_denied: code.PERMISSION_DENIED,
  unsupported: code.OP_UNSUPPORTED,
};

/** Serves a file transfer (SFTP, version 3) over the files of a box until the client ends it or `gone` is aborted. */
export async function serveSftp(
  sftp: SFTPWrapper,
  { box, account }: { readonly box: Box; readonly account: Account },
  gone: AbortSignal,
): Promise<void> {
  const ended = new AbortController();
  // Every request listens.
  setMaxListeners(0, ended.signal);
  const end = (): void => ended.abort();
  if (gone.aborted) end();
  gone.addEventListener('abort', end, { once: true });
  sftp.on('end', end).on('close', end).on('error', end);
  const transfer = new Transfer(sftp, new BoxFiles(box, account, ended.signal), end);
  try {
    if (!ended.signal.aborted) await once(ended.signal, 'abort');
  } finally {
    gone.removeEventListener('abort', end);
    await transfer.close();
    sayEnd(sftp);
    sftp.end();
  }
}

/** What ssh2 1.17 has for a transfer too, and shows for commands only. */
interface Internals {
  readonly outgoing: { readonly id: number; readonly state: string };
  readonly _protocol: { exitStatus(channel: number, code: number): void };
}

/** Clients take a transfer without an exit code for one that failed. */
function sayEnd(sftp: SFTPWrapper): void {
  const { outgoing, _protocol } = sftp as unknown as Internals;
  if (outgoing.state === 'open') _protocol.exitStatus(outgoing.id, 0);
}

/** The requests of one client. */
class Transfer {
  readonly #sftp: SFTPWrapper;
  readonly #files: BoxFiles;
  readonly #end: () => void;
  readonly #handles = new Map<number, Handle>();
  readonly #running = new Set<Promise<void>>();
  #lastHandle = 0;

  constructor(sftp: SFTPWrapper, files: BoxFiles, end: () => void) {
    this.#sftp = sftp;
    this.#files = files;
    this.#end = end;
    this.#serveHandles();
    this.#servePaths();
  }

  /** Lets go of everything that is open. */
  async close(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    const open = [...this.#handles.values()];
    this.#handles.clear();
    for (const handle of open) await handle.drop().catch(() => undefined);
  }

  #serveHandles(): void {
    const sftp = this.#sftp;
    sftp.on('OPEN', (id, path, flags, attrs) => {
      this.#open(id, (at) => OpenFile.open(this.#files, at, flags, attrs), path);
    });
    sftp.on('OPENDIR', (id, path) => this.#open(id, (at) => OpenDirectory.open(this.#files, at), path));
    sftp.on('READ', (id, handle, offset, length) => {
      this.#with(id, handle, isFile, async (file) => {
        const bytes = await file.read(offset, length);
        if (bytes.length > 0 || length === 0) sftp.data(id, bytes);
        else sftp.status(id, code.EOF);
      });
    });
    sftp.on('WRITE', (id, handle, offset, data) => {
      // The bytes lie in a packet that is used again once this returns.
      const bytes = Buffer.from(data);
      this.#with(id, handle, isFile, async (file) => {
        await file.write(offset, bytes);
        sftp.status(id, code.OK);
      });
    });
    sftp.on('FSTAT', (id, handle) => {
      this.#with(id, handle, isFile, async (file) => sftp.attrs(id, await file.attributes()));
    });
    sftp.on('FSETSTAT', (id, handle, attrs) => {
      this.#with(id, handle, isFile, async (file) => {
        await file.setAttributes(attrs);
        sftp.status(id, code.OK);
      });
    });
    sftp.on('READDIR', (id, handle) => {
      this.#with(id, handle, isDirectory, async (directory) => {
        const names = directory.next();
        if (names.length > 0) sftp.name(id, names);
        else sftp.status(id, code.EOF);
      });
    });
    sftp.on('CLOSE', (id, handle) => {
      this.#answer(id, async () => {
        const number = numberOf(handle);
        const open = this.#handles.get(number);
        if (!open) throw noHandle();
        this.#handles.delete(number);
        await open.turn.run(() => open.close());
        sftp.status(id, code.OK);
      });
    });
  }

  #servePaths(): void {
    const sftp = this.#sftp;
    const files = this.#files;
    const done = (id: number, task: () => Promise<void>): void =>
      this.#answer(id, async () => {
        await task();
        sftp.status(id, code.OK);
      });
    const at = (path: string): string => files.absolute(path);
    const name = (id: number, filename: string): void =>
      sftp.name(id, [{ filename, longname: filename, attrs: {} as Attributes }]);
    sftp.on('STAT', (id, path) => {
      this.#answer(id, async () => sftp.attrs(id, attributesOf(await files.stat(at(path)))));
    });
    sftp.on('LSTAT', (id, path) => {
      this.#answer(id, async () => sftp.attrs(id, attributesOf(await files.lstat(at(path)))));
    });
    sftp.on('REALPATH', (id, path) => name(id, files.normalized(path)));
    sftp.on('READLINK', (id, path) => {
      this.#answer(id, async () => {
        const { linkTarget } = await files.lstat(at(path));
        if (linkTarget === undefined) throw new CryoboxError('invalid_argument', `${path} is no link`);
        name(id, linkTarget);
      });
    });
    sftp.on('SETSTAT', (id, path, attrs) => done(id, () => files.setAttributes(at(path), attrs)));
    sftp.on('MKDIR', (id, path, attrs) => done(id, () => files.makeDirectory(at(path), attrs)));
    sftp.on('REMOVE', (id, path) => done(id, () => files.remove(at(path), { directory: false })));
    sftp.on('RMDIR', (id, path) => done(id, () => files.remove(at(path), { directory: true })));
    sftp.on('RENAME', (id, from, to) => done(id, () => files.rename(at(from), at(to))));
    // ssh2 gives the new link first, and what it points at second, whatever its types call them.
    sftp.on('SYMLINK', (id, link, target) => done(id, () => files.link(at(link), target)));
  }

  #open(id: number, open: (path: string) => Promise<Handle>, path: string): void {
    this.#answer(id, async () => {
      if (this.#handles.size >= sshLimits.handles) {
        throw new CryoboxError('resource_exhausted', `at most ${sshLimits.handles} files are open at once`);
      }
      const number = ++this.#lastHandle;
      // Its place is taken before it is there, so that those that are opened at once count.
      this.#handles.set(number, nothing);
      try {
        this.#handles.set(number, await open(this.#files.absolute(path)));
      } catch (error) {
        this.#handles.delete(number);
        throw error;
      }
      const handle = Buffer.alloc(4);
      handle.writeUInt32BE(number);
      this.#sftp.handle(id, handle);
    });
  }

  #with<T extends Handle>(
    id: number,
    handle: Buffer,
    isKind: (open: Handle | undefined) => open is T,
    task: (open: T) => Promise<void>,
  ): void {
    this.#answer(id, async () => {
      const open = this.#handles.get(numberOf(handle));
      if (!isKind(open)) throw noHandle();
      await open.turn.run(() => task(open));
    });
  }

  /** Runs a request; what it fails with is its answer. */
  #answer(id: number, task: () => Promise<void>): void {
    if (this.#running.size >= sshLimits.requests) {
      this.#end();
      return;
    }
    const running = task()
      .catch((error: unknown) => {
        const status = isCryoboxError(error) ? statusOf[error.code] : undefined;
        this.#sftp.status(id, status ?? code.FAILURE, messageOf(error));
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }
}

const isFile = (open: Handle | undefined): open is OpenFile => open instanceof OpenFile;
const isDirectory = (open: Handle | undefined): open is OpenDirectory => open instanceof OpenDirectory;

/** Stands for what is being opened. */
const nothing: Handle = {
  get turn(): never {
    throw noHandle();
  },
  close: async () => undefined,
  drop: async () => undefined,
};

function numberOf(handle: Buffer): number {
  return handle.length === 4 ? handle.readUInt32BE() : 0;
}

function noHandle(): CryoboxError {
  return new CryoboxError('invalid_argument', 'nothing is open by that handle');
}
