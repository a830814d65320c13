import type {
  CallOptions,
  TemplateInfo,
  TemplateOptions,
  Templates,
  VolumeInfo,
  Volumes,
} from '../api/index.js';
import { asObject, asObjects, compact } from '../wire/json.js';
import { templateFromJson, volumeFromJson } from '../wire/runtime.js';
import { orNull } from './executions.js';
import { segment, type Transport } from './transport.js';

/** Templates of a runtime behind a server. */
export class RemoteTemplates implements Templates {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async create(options: TemplateOptions): Promise<TemplateInfo> {
    const { box, name, overwrite, labels, signal } = options;
    const json = compact({ sandbox_id: box, name, labels });
    const query = { overwrite };
    return templateFromJson(
      await this.#transport.json({ method: 'POST', path: '/snapshots', query, json, signal }),
    );
  }

  async list(options: CallOptions & { readonly type?: 'memory' } = {}): Promise<TemplateInfo[]> {
    const { type, signal } = options;
    const list = await this.#transport.json({ method: 'GET', path: '/snapshots', query: { type }, signal });
    return asObjects(list).map(templateFromJson);
  }

  async get(name: string, { signal }: CallOptions = {}): Promise<TemplateInfo | null> {
    const path = `/snapshots/${segment(name)}`;
    const found = await orNull(this.#transport.json({ method: 'GET', path, signal }));
    return found === null ? null : templateFromJson(found);
  }

  async remove(name: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'DELETE', path: `/snapshots/${segment(name)}`, signal });
  }
}

/** Volumes of a runtime behind a server. */
export class RemoteVolumes implements Volumes {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async create(
    options: CallOptions & { readonly name?: string; readonly sizeGb?: number } = {},
  ): Promise<VolumeInfo> {
    const json = compact({ name: options.name, size_gb: options.sizeGb });
    const { signal } = options;
    return volumeFromJson(await this.#transport.json({ method: 'POST', path: '/volumes', json, signal }));
  }

  async list({ signal }: CallOptions = {}): Promise<VolumeInfo[]> {
    const answer = asObject(await this.#transport.json({ method: 'GET', path: '/volumes', signal }));
    return asObjects(answer['volumes'], 'volumes').map(volumeFromJson);
  }

  async get(nameOrId: string, { signal }: CallOptions = {}): Promise<VolumeInfo | null> {
    const path = `/volumes/${segment(nameOrId)}`;
    const found = await orNull(this.#transport.json({ method: 'GET', path, signal }));
    return found === null ? null : volumeFromJson(found);
  }

  async remove(nameOrId: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { force, signal } = options;
    const path = `/volumes/${segment(nameOrId)}`;
    await this.#transport.empty({ method: 'DELETE', path, query: { force }, signal });
  }
}
