import type {
  CallOptions,
  SnapshotCreateOptions,
  SnapshotInfo,
  SnapshotResult,
  Snapshots,
} from '../api/index.js';
import { asObject, asObjects, compact } from '../wire/json.js';
import { snapshotFromJson } from '../wire/snapshot.js';
import { orNull } from './executions.js';
import { segment, type Transport } from './transport.js';

/** Snapshots of a box behind a server. */
export class RemoteSnapshots implements Snapshots {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, boxPath: string) {
    this.#transport = transport;
    this.#path = `${boxPath}/snapshots`;
  }

  async create(name: string, options: SnapshotCreateOptions = {}): Promise<SnapshotResult> {
    const timeoutMs = options.quiesceTimeoutMs;
    const json = compact({
      name,
      memory: options.memory,
      quiesce: options.quiesce,
      quiesce_timeout_secs: timeoutMs === undefined ? undefined : timeoutMs / 1000,
      stop_on_quiesce_fail: options.stopOnQuiesceFail,
    });
    const { signal } = options;
    return snapshotFromJson(await this.#transport.json({ method: 'POST', path: this.#path, json, signal }));
  }

  async list({ signal }: CallOptions = {}): Promise<SnapshotInfo[]> {
    const answer = asObject(await this.#transport.json({ method: 'GET', path: this.#path, signal }));
    return asObjects(answer['snapshots'], 'snapshots').map(snapshotFromJson);
  }

  async get(name: string, { signal }: CallOptions = {}): Promise<SnapshotInfo | null> {
    const found = await orNull(this.#transport.json({ method: 'GET', path: this.#of(name), signal }));
    return found === null ? null : snapshotFromJson(found);
  }

  async restore(name: string, options: CallOptions & { readonly live?: boolean } = {}): Promise<void> {
    const json = compact({ live: options.live });
    await this.#transport.empty({
      method: 'POST',
      path: `${this.#of(name)}/restore`,
      json,
      signal: options.signal,
    });
  }

  async remove(name: string, { signal }: CallOptions = {}): Promise<void> {
    await this.#transport.empty({ method: 'DELETE', path: this.#of(name), signal });
  }

  #of(name: string): string {
    return `${this.#path}/${segment(name)}`;
  }
}
