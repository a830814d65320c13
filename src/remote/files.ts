import type { ByteSource, CallOptions, CopyOptions, CopyResult, FileInfo, Files } from '../api/index.js';
import { collectFile } from '../base/collect-file.js';
import { packHostTree } from '../base/host-pack.js';
import { unpackHostTree } from '../base/host-unpack.js';
import { copyResultFromHeaders, fileFromJson } from '../wire/files.js';
import { asObjects } from '../wire/json.js';
import { octets, tarMedia } from '../wire/media.js';
import { orNull } from './executions.js';
import type { Transport } from './transport.js';

/** Reports bytes as they pass. */
function counter(options: CopyOptions): (bytes: number) => void {
  let doneBytes = 0;
  return (bytes) => {
    doneBytes += bytes;
    options.onProgress?.({ stage: 'copy', doneBytes });
  };
}

async function* once(content: string | Uint8Array): AsyncGenerator<Uint8Array> {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  if (bytes.length > 0) yield bytes;
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

  async unpack(guestPath: string, tar: ByteSource, options: CopyOptions = {}): Promise<CopyResult> {
    const headers = await this.#transport.empty({
      method: 'PUT',
      path: this.#path,
      query: {
        path: guestPath,
        overwrite: options.overwrite,
        follow_symlinks: options.followSymlinks,
      },
      upload: tar,
      uploadType: tarMedia,
      signal: options.signal,
    });
    return copyResultFromHeaders(headers);
  }

  pack(
    guestPath: string,
    options: CallOptions & { readonly followSymlinks?: boolean } = {},
  ): Promise<ByteSource> {
    return this.#transport.bytes({
      method: 'GET',
      path: this.#path,
      query: { path: guestPath, follow_symlinks: options.followSymlinks },
      accept: tarMedia,
      signal: options.signal,
    });
  }

  async read(path: string, options: CallOptions = {}): Promise<Buffer> {
    return collectFile(path, await this.readStream(path, options));
  }

  readStream(path: string, { signal }: CallOptions = {}): Promise<ByteSource> {
    return this.#transport.bytes({ method: 'GET', path: `${this.#path}/content`, query: { path }, signal });
  }

  async write(
    path: string,
    content: string | Uint8Array | ByteSource,
    options: CallOptions & { readonly mode?: number } = {},
  ): Promise<void> {
    const whole = typeof content === 'string' || content instanceof Uint8Array;
    await this.#transport.empty({
      method: 'PUT',
      path: `${this.#path}/content`,
      query: { path, mode: options.mode?.toString(8).padStart(3, '0') },
      upload: whole ? once(content) : content,
      uploadType: octets,
      signal: options.signal,
    });
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

  async makeDirectory(path: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'POST', path: `${this.#path}/directory`, json: { path }, signal });
  }

  async remove(path: string, options: CallOptions & { readonly recursive?: boolean } = {}): Promise<void> {
    const { recursive, signal } = options;
    await this.#transport.empty({ method: 'DELETE', path: this.#path, query: { path, recursive }, signal });
  }

  async rename(from: string, to: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'POST', path: `${this.#path}/rename`, json: { from, to }, signal });
  }
}
