import type {
  ByteInput,
  ByteSource,
  CallOptions,
  CopyOptions,
  CopyResult,
  FileInfo,
  FileOwner,
  Files,
  FileWatch,
  PackOptions,
  ReadOptions,
  WatchOptions,
} from '../../api/index.js';
import { throwIfCancelled } from '../../base/abort.js';
import { withBytes } from '../../base/byte-source.js';
import { collectFile } from '../../base/collect-file.js';
import { packHostTree } from '../../base/host-pack.js';
import { unpackHostTree } from '../../base/host-unpack.js';
import { inBackground } from '../../base/in-background.js';
import { Turns } from '../../base/turns.js';
import { CryoboxError, isCryoboxError } from '../../errors.js';
import type { GuestFileInfo, PackStream } from '../../guest/index.js';
import { watchOf } from '../../surface/file-watch.js';
import type { MachinesContext } from '../machines/context.js';
import type { LiveBox } from '../machines/live.js';
import { checkInteger } from '../record/integers.js';
import { infoOf, Listing } from './listing.js';
import { useBox } from './use.js';
import { eventsBelow } from './watching.js';

/** Files of one box of the engine. */
export class EngineFiles implements Files {
  readonly #ctx: MachinesContext;
  readonly #boxId: string;

  constructor(ctx: MachinesContext, boxId: string) {
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

  async unpack(guestPath: string, tar: ByteInput, options: CopyOptions = {}): Promise<CopyResult> {
    checkPath(guestPath);
    const { overwrite, signal } = options;
    return await withBytes(tar, 'tar', (source) =>
      this.#use({ signal }, async ({ agent, boxId }) => {
        const options = { overwrite, renameSingle: true, keepOwner: true, signal };
        const result = await agent.files.unpack(guestPath, source, options);
        this.#ctx.counters.addToBox(boxId, { bytesReceived: result.bytes });
        return { entries: result.entries, bytes: result.bytes };
      }),
    );
  }

  async pack(guestPath: string, options: PackOptions = {}): Promise<ByteSource> {
    checkPath(guestPath);
    const { followSymlinks, named: includeParent, signal } = options;
    return await this.#use({ signal }, async ({ agent, boxId }) => {
      // What cannot be packed fails here, before anybody reads.
      await agent.files.stat(guestPath, { signal });
      const started = () => agent.files.pack(guestPath, { followSymlinks, includeParent, signal });
      return this.#packed(boxId, started);
    });
  }

  async *#packed(boxId: string, start: () => PackStream): AsyncGenerator<Uint8Array> {
    using _ = this.#ctx.activity.use(boxId);
    const { stream, result } = start();
    yield* stream;
    this.#ctx.counters.addToBox(boxId, { bytesSent: (await result).bytes });
  }

  async read(path: string, options: CallOptions = {}): Promise<Buffer> {
    return await collectFile(path, await this.readStream(path, options));
  }

  async readStream(path: string, options: ReadOptions = {}): Promise<ByteSource> {
    checkPath(path);
    const { offsetBytes, lengthBytes, signal } = options;
    checkInteger('offsetBytes', offsetBytes, 0, Number.MAX_SAFE_INTEGER);
    checkInteger('lengthBytes', lengthBytes, 0, Number.MAX_SAFE_INTEGER);
    return await this.#use({ signal }, async ({ agent, boxId }) => {
      // What cannot be read fails here, before anybody reads.
      checkReadable(path, await agent.files.stat(path, { follow: true, signal }));
      return this.#whileUsed(boxId, () => agent.files.read(path, options));
    });
  }

  /** The guest begins when the first byte is asked for: what nobody reads holds nothing there. */
  async *#whileUsed(boxId: string, start: () => AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    using _ = this.#ctx.activity.use(boxId);
    yield* start();
  }

  async write(
    path: string,
    content: ByteInput,
    options: CallOptions & { readonly mode?: number; readonly owner?: FileOwner } = {},
  ): Promise<void> {
    checkPath(path);
    const { mode, owner, signal } = options;
    await withBytes(content, 'content', (source) =>
      this.#use(options, ({ agent }) =>
        agent.files.write(path, source, { mode, ...owner, signal, createParents: true }),
      ),
    );
  }

  async list(path: string, options: CallOptions = {}): Promise<FileInfo[]> {
    checkPath(path);
    const { signal } = options;
    return await this.#use({ signal }, async ({ agent }) => {
      const listing = new Listing(path);
      const turns = new Turns();
      for await (const info of agent.files.list(path, { signal })) {
        throwIfCancelled(signal, `listing ${path}`);
        listing.add(info);
        await turns.step();
      }
      return await listing.sorted();
    });
  }

  async stat(path: string, options: CallOptions = {}): Promise<FileInfo | null> {
    checkPath(path);
    return await this.#use(options, async ({ agent }) => {
      try {
        return infoOf(path, await agent.files.stat(path, { signal: options.signal }));
      } catch (error) {
        if (isCryoboxError(error, 'not_found')) return null;
        throw error;
      }
    });
  }

  async makeDirectory(
    path: string,
    { owner, signal }: CallOptions & { readonly owner?: FileOwner } = {},
  ): Promise<void> {
    checkPath(path);
    await this.#use({ signal }, async ({ agent }) => {
      await agent.files.makeDirectory(path, { recursive: true, signal });
      if (owner) await agent.files.changeOwner(path, { ...owner, signal });
    });
  }

  async remove(path: string, options: CallOptions & { readonly recursive?: boolean } = {}): Promise<void> {
    checkPath(path);
    await this.#use(options, ({ agent }) =>
      agent.files.remove(path, { recursive: options.recursive, signal: options.signal }),
    );
  }

  async rename(
    from: string,
    to: string,
    { overwrite, signal }: CallOptions & { readonly overwrite?: boolean } = {},
  ): Promise<void> {
    checkPath(from);
    checkPath(to);
    await this.#use({ signal }, ({ agent }) => agent.files.rename(from, to, { overwrite, signal }));
  }

  async watch(path: string, { recursive, signal }: WatchOptions = {}): Promise<FileWatch> {
    checkPath(path);
    return await this.#use({ signal }, async ({ agent, boxId }) => {
      const { events, ended, close } = await agent.files.watch(path, { recursive, signal });
      const use = this.#ctx.activity.use(boxId);
      inBackground(
        ended.then(() => use[Symbol.dispose]()),
        'note the end of a watch',
        this.#ctx.logger,
      );
      return watchOf(eventsBelow(path, events), close, signal);
    });
  }

  async #use<T>({ signal }: CallOptions, task: (live: LiveBox) => Promise<T>): Promise<T> {
    return await useBox(this.#ctx, this.#boxId, 'copy', task, signal);
  }
}

function checkPath(path: string): void {
  if (path.startsWith('/') && !path.includes('\0')) return;
  throw new CryoboxError('invalid_argument', `paths in a box are absolute, got ${JSON.stringify(path)}`);
}

/** What the agent would say once it is asked for the bytes. */
function checkReadable(path: string, { type }: GuestFileInfo): void {
  if (type === 'directory') {
    throw new CryoboxError('invalid_argument', `${path} is a directory, expected a file`, {
      hint: 'List it, or copy it with copyOut or pack.',
    });
  }
  if (type !== 'fifo' && type !== 'socket') return;
  throw new CryoboxError('unsupported', `${path} is a ${type}; only files and devices are read`, {
    hint: 'Read it by a command in the box, such as cat.',
  });
}

/** Reports bytes as they pass. */
function counter(options: CopyOptions): (bytes: number) => void {
  let doneBytes = 0;
  return (bytes) => {
    doneBytes += bytes;
    options.onProgress?.({ stage: 'copy', doneBytes });
  };
}
