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
} from '../api/index.js';
import { withBytes } from '../base/byte-source.js';
import { collectFile } from '../base/collect-file.js';
import { packHostTree } from '../base/host-pack.js';
import { unpackHostTree } from '../base/host-unpack.js';
import { watchOf } from '../surface/file-watch.js';
import { watchEvents } from '../wire/file-watch.js';
import { copyResultFromHeaders, fileFromJson } from '../wire/files.js';
import { asObjects } from '../wire/json.js';
import { ndjson, octets, tarMedia } from '../wire/media.js';
import { orNull } from './executions.js';
import { jsonLines } from './lines.js';
import type { Transport } from './transport.js';

/** Reports bytes as they pass. */
function counter(options: CopyOptions): (bytes: number) => void {
  let doneBytes = 0;
  return (bytes) => {
    doneBytes += bytes;
    options.onProgress?.({ stage: 'copy', doneBytes });
  };
}

/** Files of a box behind a server. */
export class RemoteFiles implements Files {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#path = `${boxPath}/files`;
  }

  copyIn(hostPath: string, guestPath: string, options: CopyOptions = {}): Promise<CopyResult> {
    const { followSymlinks, signal } = options;
    const tar = packHostTree(hostPath, { followSymlinks, signal, onBytes: counter(options) });
    return this.unpack(guestPath, tar, { overwrite: options.overwrite, signal });
  }

  async copyOut(guestPath: string, hostPath: string, options: CopyOptions = {}): Promise<CopyResult> {
    const { followSymlinks, overwrite, signal } = options;
    const tar = await this.pack(guestPath, { followSymlinks, signal });
    return unpackHostTree(tar, hostPath, { overwrite, signal, onBytes: counter(options) });
  }

  async unpack(guestPath: string, tar: ByteInput, options: CopyOptions = {}): Promise<CopyResult> {
    const { overwrite, followSymlinks, signal } = options;
    const headers = await withBytes(tar, 'tar', (upload) =>
      this.#transport.empty({
        method: 'PUT',
        path: this.#path,
        query: { path: guestPath, overwrite, follow_symlinks: followSymlinks },
        upload,
        uploadType: tarMedia,
        signal,
      }),
    );
    return copyResultFromHeaders(headers);
  }

  pack(guestPath: string, options: PackOptions = {}): Promise<ByteSource> {
    return this.#transport.bytes({
      method: 'GET',
      path: this.#path,
      query: {
        path: guestPath,
        follow_symlinks: options.followSymlinks,
        named: options.named ?? false,
      },
      accept: tarMedia,
      signal: options.signal,
    });
  }

  async read(path: string, options: CallOptions = {}): Promise<Buffer> {
    return collectFile(path, await this.readStream(path, options));
  }

  readStream(path: string, options: ReadOptions = {}): Promise<ByteSource> {
    const { offsetBytes, lengthBytes, signal } = options;
    const query = { path, offset_bytes: offsetBytes, length_bytes: lengthBytes };
    return this.#transport.bytes({ method: 'GET', path: `${this.#path}/content`, query, signal });
  }

  async write(
    path: string,
    content: ByteInput,
    options: CallOptions & { readonly mode?: number; readonly owner?: FileOwner } = {},
  ): Promise<void> {
    await withBytes(content, 'content', (upload) =>
      this.#transport.empty({
        method: 'PUT',
        path: `${this.#path}/content`,
        query: { path, mode: options.mode?.toString(8).padStart(3, '0'), ...options.owner },
        upload,
        uploadType: octets,
        signal: options.signal,
      }),
    );
  }

  async list(path: string, { signal }: CallOptions = {}): Promise<FileInfo[]> {
    const list = await this.#transport.json({
      method: 'GET',
      path: `${this.#path}/list`,
      query: { path },
      signal,
    });
    return asObjects(list).map(fileFromJson);
  }

  async stat(path: string, { signal }: CallOptions = {}): Promise<FileInfo | null> {
    const asked = this.#transport.json({
      method: 'GET',
      path: `${this.#path}/stat`,
      query: { path },
      signal,
    });
    const found = await orNull(asked);
    return found === null ? null : fileFromJson(found);
  }

  async makeDirectory(
    path: string,
    { owner, signal }: CallOptions & { readonly owner?: FileOwner } = {},
  ): Promise<void> {
    const json = { path, ...owner };
    await this.#transport.empty({ method: 'POST', path: `${this.#path}/directory`, json, signal });
  }

  async remove(path: string, options: CallOptions & { readonly recursive?: boolean } = {}): Promise<void> {
    const { recursive, signal } = options;
    await this.#transport.empty({ method: 'DELETE', path: this.#path, query: { path, recursive }, signal });
  }

  async rename(
    from: string,
    to: string,
    { overwrite, signal }: CallOptions & { readonly overwrite?: boolean } = {},
  ): Promise<void> {
    const json = { from, to, ...(overwrite ? { overwrite } : {}) };
    await this.#transport.empty({ method: 'POST', path: `${this.#path}/rename`, json, signal });
  }

  async watch(path: string, { recursive, signal }: WatchOptions = {}): Promise<FileWatch> {
    const left = new AbortController();
    const source = await this.#transport.bytes({
      method: 'GET',
      path: `${this.#path}/watch`,
      query: { path, recursive },
      accept: ndjson,
      signal: signal ? AbortSignal.any([signal, left.signal]) : left.signal,
    });
    return watchOf(watchEvents(jsonLines(source)), () => left.abort(), signal);
  }
}
