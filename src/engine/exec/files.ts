import type { ByteSource, CallOptions, CopyOptions, CopyResult, FileInfo, Files } from '../../api/index.js';
import { collectFile } from '../../base/collect-file.js';
import { packHostTree } from '../../base/host-pack.js';
import { unpackHostTree } from '../../base/host-unpack.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import type { GuestFileInfo } from '../../guest/index.js';
import { useBox } from '../boxes/use.js';
import type { EngineContext } from '../context.js';
import type { LiveBox } from '../live.js';

/** Runs a task over a source. When the source fails, that is the failure, not what the task makes of its end. */
async function fromSource<T>(source: ByteSource, task: (watched: ByteSource) => Promise<T>): Promise<T> {
  let failure: unknown;
  async function* watched(): AsyncGenerator<Uint8Array> {
    try {
      yield* source;
    } catch (error) {
      failure = error;
      throw error;
    }
  }
  try {
    return await task(watched());
  } catch (error) {
    throw failure ?? error;
  }
}

/** Files of one box of the engine. */
export class EngineFiles implements Files {
  readonly #ctx: EngineContext;
  readonly #boxId: string;

  constructor(ctx: EngineContext, boxId: string) {
    this.#ctx = ctx;
    this.#boxId = boxId;
  }

  async copyIn(hostPath: string, guestPath: string, options: CopyOptions = {}): Promise<CopyResult> {
    const { followSymlinks, overwrite, signal } = options;
    const tar = packHostTree(hostPath, { followSymlinks, signal, onBytes: counter(options) });
    return await this.unpack(guestPath, tar, { overwrite, signal });
  }

  async copyOut(guestPath: string, hostPath: string, options: CopyOptions = {}): Promise<CopyResult> {
    const { followSymlinks, overwrite, signal } = options;
    const tar = await this.pack(guestPath, { followSymlinks, signal });
    return await unpackHostTree(tar, hostPath, { overwrite, signal, onBytes: counter(options) });
  }

  async unpack(guestPath: string, tar: ByteSource, options: CopyOptions = {}): Promise<CopyResult> {
    checkPath(guestPath);
    const { overwrite, signal } = options;
    return await this.#use(async ({ agent, boxId }) => {
      const options = { overwrite, renameSingle: true, keepOwner: true, signal };
      const result = await fromSource(tar, (source) => agent.files.unpack(guestPath, source, options));
      this.#ctx.counters.addToBox(boxId, { bytesReceived: result.bytes });
      return { entries: result.entries, bytes: result.bytes };
    });
  }

  async pack(
    guestPath: string,
    options: CallOptions & { readonly followSymlinks?: boolean } = {},
  ): Promise<ByteSource> {
    checkPath(guestPath);
    const { followSymlinks, signal } = options;
    return await this.#use(async ({ agent, boxId }) => {
      // What cannot be packed fails here, before anybody reads.
      await agent.files.stat(guestPath, { signal });
      const { stream, result } = agent.files.pack(guestPath, { followSymlinks, signal });
      const done = this.#ctx.timers.use(boxId);
      result.then(({ bytes }) => this.#ctx.counters.addToBox(boxId, { bytesSent: bytes })).then(done, done);
      return stream;
    });
  }

  async read(path: string, options: CallOptions = {}): Promise<Buffer> {
    return await collectFile(path, await this.readStream(path, options));
  }

  async readStream(path: string, { signal }: CallOptions = {}): Promise<ByteSource> {
    checkPath(path);
    return await this.#use(async ({ agent, boxId }) => {
      // What cannot be read fails here, before anybody reads.
      await agent.files.stat(path, { signal });
      return this.#whileUsed(boxId, agent.files.read(path, { signal }));
    });
  }

  async *#whileUsed(boxId: string, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const done = this.#ctx.timers.use(boxId);
    try {
      yield* bytes;
    } finally {
      done();
    }
  }

  async write(
    path: string,
    content: string | Uint8Array | ByteSource,
    options: CallOptions & { readonly mode?: number } = {},
  ): Promise<void> {
    checkPath(path);
    const source =
      typeof content === 'string'
        ? [Buffer.from(content)]
        : content instanceof Uint8Array
          ? [content]
          : content;
    await this.#use(({ agent }) => agent.files.write(path, source, { ...options, createParents: true }));
  }

  async list(path: string, options: CallOptions = {}): Promise<FileInfo[]> {
    checkPath(path);
    return await this.#use(async ({ agent }) => {
      const entries: FileInfo[] = [];
      for await (const info of agent.files.list(path, { signal: options.signal })) {
        entries.push(infoOf(`${path.replace(/\/+$/, '')}/${info.name}`, info));
      }
      return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
    });
  }

  async stat(path: string, options: CallOptions = {}): Promise<FileInfo | null> {
    checkPath(path);
    return await this.#use(async ({ agent }) => {
      try {
        return infoOf(path, await agent.files.stat(path, { signal: options.signal }));
      } catch (error) {
        if (isCryoboxError(error, 'not_found')) return null;
        throw error;
      }
    });
  }

  async makeDirectory(path: string, options: CallOptions = {}): Promise<void> {
    checkPath(path);
    await this.#use(({ agent }) =>
      agent.files.makeDirectory(path, { recursive: true, signal: options.signal }),
    );
  }

  async remove(path: string, options: CallOptions & { readonly recursive?: boolean } = {}): Promise<void> {
    checkPath(path);
    await this.#use(({ agent }) =>
      agent.files.remove(path, { recursive: options.recursive, signal: options.signal }),
    );
  }

  async rename(from: string, to: string, options: CallOptions = {}): Promise<void> {
    checkPath(from);
    checkPath(to);
    await this.#use(({ agent }) => agent.files.rename(from, to, { signal: options.signal }));
  }

  async #use<T>(task: (live: LiveBox) => Promise<T>): Promise<T> {
    return await useBox(this.#ctx, this.#boxId, 'copy', task);
  }
}

function checkPath(path: string): void {
  if (path.startsWith('/') && !path.includes('\0')) return;
  throw new CryoboxError('invalid_argument', `paths in a box are absolute, got ${JSON.stringify(path)}`);
}

function infoOf(path: string, info: GuestFileInfo): FileInfo {
  const known = info.type === 'file' || info.type === 'directory' || info.type === 'symlink';
  return {
    path,
    type: known ? info.type : 'other',
    sizeBytes: info.size,
    mode: info.mode,
    uid: info.uid,
    gid: info.gid,
    modifiedAt: new Date(info.mtimeMs),
    ...(info.linkTarget ? { linkTarget: info.linkTarget } : {}),
  };
}

/** Reports bytes as they pass. */
function counter(options: CopyOptions): (bytes: number) => void {
  let doneBytes = 0;
  return (bytes) => {
    doneBytes += bytes;
    options.onProgress?.({ stage: 'copy', doneBytes });
  };
}
