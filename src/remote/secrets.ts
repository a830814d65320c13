import type { BoxSecrets, CallOptions, SecretChange, SecretInfo } from '../api/index.js';
import { asObject, asObjects } from '../wire/json.js';
import { secretChangeToJson, secretFromJson } from '../wire/secrets.js';
import { segment, type Transport } from './transport.js';

/** The secrets of a box behind a server. */
export class RemoteSecrets implements BoxSecrets {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#path = `${boxPath}/secrets`;
  }

  async list({ signal }: CallOptions = {}): Promise<SecretInfo[]> {
    const answer = asObject(await this.#transport.json({ method: 'GET', path: this.#path, signal }));
    return asObjects(answer['secrets'], 'secrets').map(secretFromJson);
  }

  async set(name: string, { signal, ...secret }: SecretChange): Promise<SecretInfo> {
    const json = secretChangeToJson(secret);
    const path = `${this.#path}/${segment(name)}`;
    return secretFromJson(asObject(await this.#transport.json({ method: 'PUT', path, json, signal })));
  }

  async remove(name: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'DELETE', path: `${this.#path}/${segment(name)}`, signal });
  }
}
