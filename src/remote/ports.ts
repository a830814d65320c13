import type { BoxPorts, CallOptions, PublishedPort, PublishOptions } from '../api/index.js';
import { asObject, asObjects } from '../wire/json.js';
import { portFromJson, publishToJson } from '../wire/ports.js';
import { segment, type Transport } from './transport.js';

/** The published ports of a box behind a server: they are ports of the server's host. */
export class RemotePorts implements BoxPorts {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#path = `${boxPath}/ports`;
  }

  async list({ signal }: CallOptions = {}): Promise<PublishedPort[]> {
    const answer = asObject(await this.#transport.json({ method: 'GET', path: this.#path, signal }));
    return asObjects(answer['ports'], 'ports').map(portFromJson);
  }

  async publish({ signal, ...port }: PublishOptions & CallOptions): Promise<PublishedPort> {
    const json = publishToJson(port);
    return portFromJson(
      asObject(await this.#transport.json({ method: 'POST', path: this.#path, json, signal })),
    );
  }

  async unpublish(
    hostPort: number,
    { signal, hostIp }: CallOptions & { readonly hostIp?: string } = {},
  ): Promise<void> {
    const path = `${this.#path}/${segment(String(hostPort))}`;
    await this.#transport.empty({ method: 'DELETE', path, query: { host_ip: hostIp }, signal });
  }
}
