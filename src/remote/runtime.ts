import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type {
  AdoptOptions,
  Box,
  BoxInfo,
  BoxListOptions,
  ByteInput,
  ByteSource,
  CallOptions,
  CreateOptions,
  EventsOptions,
  GcResult,
  ImportOptions,
  ProgressOptions,
  Runtime,
  RuntimeEvent,
  RuntimeMetrics,
  TreeNode,
  VerifyResult,
} from '../api/index.js';
import { AttachedBoxes } from '../base/attached.js';
import { withBytes } from '../base/byte-source.js';
import { isCryoboxError, wrapHostError } from '../errors.js';
import { importEnvText } from '../surface/import-env.js';
import { boxFromJson } from '../wire/box.js';
import { createToJson } from '../wire/create.js';
import { asObject, asObjects, compact } from '../wire/json.js';
import { importEnvHeader, octets } from '../wire/media.js';
import { gcResultFromJson, runtimeMetricsFromJson, verifyResultFromJson } from '../wire/runtime.js';
import { treeFromJson } from '../wire/tree.js';
import { RemoteBox } from './box.js';
import { followEvents } from './events.js';
import { orNull } from './executions.js';
import { RemoteImages, withProgress } from './images.js';
import { RemoteTemplates, RemoteVolumes } from './resources.js';
import { segment, type Transport } from './transport.js';

/** The bytes of an archive; `not_found` where there is no such file. */
async function* readArchive(path: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path)) yield chunk as Uint8Array;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw wrapHostError(error, `Reading ${path}`, missing ? 'not_found' : 'storage_error');
  }
}

async function* counted(bytes: ByteSource, options: ProgressOptions): AsyncGenerator<Uint8Array> {
  let doneBytes = 0;
  for await (const chunk of bytes) {
    yield chunk;
    doneBytes += chunk.length;
    options.onProgress?.({ stage: 'import', doneBytes });
  }
}

/** Everything Cryobox does, on a server. */
export class RemoteRuntime implements Runtime {
  readonly images: RemoteImages;
  readonly templates: RemoteTemplates;
  readonly volumes: RemoteVolumes;
  readonly #transport: Transport;
  /** Boxes this runtime made without `detach`. */
  readonly #attached = new AttachedBoxes(async (id) => (await this.get(id)) !== null);
  #closed: Promise<void> | undefined;

  constructor(transport: Transport) {
    this.#transport = transport;
    this.images = new RemoteImages(transport);
    this.templates = new RemoteTemplates(transport);
    this.volumes = new RemoteVolumes(transport);
  }

  async create(options: CreateOptions): Promise<Box> {
    const json = createToJson(options);
    const ask = {
      method: 'POST',
      path: '/boxes',
      json,
      idempotencyKey: options.operationId ?? randomUUID(),
    } as const;
    const info = boxFromJson(await withProgress(this.#transport, ask, options));
    const attached = options.detach !== true;
    if (attached) await this.#attached.add(info.id);
    return this.#boxOf(info, attached);
  }

  async getOrCreate(
    name: string,
    options: Omit<CreateOptions, 'name'>,
  ): Promise<{ box: Box; created: boolean }> {
    const existing = await this.get(name, options);
    if (existing) return { box: existing, created: false };
    try {
      return { box: await this.create({ ...options, name }), created: true };
    } catch (error) {
      // Somebody else was faster.
      const box = isCryoboxError(error, 'already_exists') ? await this.get(name, options) : null;
      if (box) return { box, created: false };
      throw error;
    }
  }

  async get(idOrName: string, { signal }: CallOptions = {}): Promise<Box | null> {
    const path = `/boxes/${segment(idOrName)}`;
    const found = await orNull(this.#transport.json({ method: 'GET', path, signal }));
    return found === null ? null : this.#boxOf(boxFromJson(found));
  }

  async list(options: BoxListOptions = {}): Promise<BoxInfo[]> {
    const { status, after, limit, signal } = options;
    const query = { status, pageToken: after, pageSize: limit };
    const answer = await this.#transport.json({ method: 'GET', path: '/boxes', query, signal });
    return asObjects(asObject(answer)['boxes'], 'boxes').map(boxFromJson);
  }

  async remove(idOrName: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { force, signal } = options;
    await this.#transport.empty({
      method: 'DELETE',
      path: `/boxes/${segment(idOrName)}`,
      query: { force },
      signal,
    });
    this.#attached.delete(idOrName);
  }

  #boxOf(info: Pick<BoxInfo, 'id' | 'name'>, owned = false): RemoteBox {
    return new RemoteBox(this.#transport, info, owned, (id) => this.#attached.delete(id));
  }

  async import(archive: string | ByteInput, options: ImportOptions = {}): Promise<Box> {
    // A stream gives its bytes once; a file can be sent again.
    const send = (upload: ByteSource | (() => ByteSource)): Promise<unknown> =>
      this.#transport.json({
        method: 'POST',
        path: '/boxes/import',
        query: { name: options.name, memory: options.memory },
        upload,
        uploadType: octets,
        signal: options.signal,
        idempotencyKey: options.operationId ?? randomUUID(),
        ...(options.env ? { headers: { [importEnvHeader]: importEnvText(options.env) } } : {}),
      });
    const answer =
      typeof archive === 'string'
        ? await send(() => counted(readArchive(archive), options))
        : await withBytes(archive, 'archive', (source) => send(counted(source, options)));
    return this.#boxOf(boxFromJson(answer));
  }

  async adopt(store: string, { box, name, signal }: AdoptOptions): Promise<Box> {
    const json = compact({ store, box, name });
    const path = '/boxes/adopt';
    return this.#boxOf(boxFromJson(await this.#transport.json({ method: 'POST', path, json, signal })));
  }

  async tree({ signal }: CallOptions = {}): Promise<TreeNode[]> {
    return treeFromJson(await this.#transport.json({ method: 'GET', path: '/tree', signal }));
  }

  async metrics({ signal }: CallOptions = {}): Promise<RuntimeMetrics> {
    return runtimeMetricsFromJson(await this.#transport.json({ method: 'GET', path: '/metrics', signal }));
  }

  events(options: EventsOptions = {}): AsyncGenerator<RuntimeEvent> {
    return followEvents(this.#transport, options);
  }

  async gc(options: CallOptions & { readonly dryRun?: boolean } = {}): Promise<GcResult> {
    const json = compact({ dry_run: options.dryRun });
    const { signal } = options;
    return gcResultFromJson(await this.#transport.json({ method: 'POST', path: '/gc', json, signal }));
  }

  async verify(options: ProgressOptions = {}): Promise<VerifyResult> {
    const ask = { method: 'POST', path: '/verify' } as const;
    return verifyResultFromJson(await withProgress(this.#transport, ask, options));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    // One that is gone, or cannot be stopped, must not keep the others running.
    await Promise.allSettled(
      this.#attached
        .take()
        .map((id) => this.#transport.json({ method: 'POST', path: `/boxes/${segment(id)}/stop` })),
    );
    await this.#transport.close();
  }
}
