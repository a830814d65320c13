import type { BoxNetwork, CallOptions, NetworkInfo, NetworkOptions, PreviewAccess } from '../api/index.js';
import { inboundToJson, networkInfoFromJson, networkToJson } from '../wire/network.js';
import type { Transport } from './transport.js';

/** The network of a box behind a server. */
export class RemoteNetwork implements BoxNetwork {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#path = `${boxPath}/network`;
  }

  async info({ signal }: CallOptions = {}): Promise<NetworkInfo> {
    return networkInfoFromJson(await this.#transport.json({ method: 'GET', path: this.#path, signal }));
  }

  async update({ signal, ...options }: NetworkOptions & CallOptions): Promise<NetworkInfo> {
    const json = networkToJson(options);
    return networkInfoFromJson(await this.#transport.json({ method: 'PUT', path: this.#path, json, signal }));
  }

  async setInbound(access: PreviewAccess, { signal }: CallOptions = {}): Promise<NetworkInfo> {
    const [path, json] = [`${this.#path}/inbound`, inboundToJson(access)];
    return networkInfoFromJson(await this.#transport.json({ method: 'PUT', path, json, signal }));
  }
}
