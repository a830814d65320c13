import { LRUCache } from 'lru-cache';
import type { ImageReference } from '../formats/oci/reference.js';
import type { CredentialSource, RegistryCredentials } from './credentials.js';
import type { Reach } from './reach.js';
import { RegistryClient } from './registry.js';
import type { RegistrySettings, Timeouts } from './settings.js';

/** Registries whose connections and tokens are remembered. */
const maxClients = 32;

/** Settings and credentials of one pull, for the registry its reference names. */
export interface PullRegistry extends RegistrySettings {
  /** Shown to the registry itself, never to its mirrors. @default those of the puller; `none` for no others either */
  readonly credentials?: RegistryCredentials | 'none';
}

/** Where an image's blobs can be had. */
export interface Source {
  readonly client: RegistryClient;
  readonly repository: string;
}

interface ClientsOptions {
  readonly registries: Readonly<Record<string, RegistrySettings>>;
  readonly credentials: CredentialSource;
  readonly timeouts: Timeouts;
}

/** The clients of registries, kept between pulls as long as they are used. */
export class RegistryClients {
  readonly #options: ClientsOptions;
  readonly #clients = new LRUCache<string, RegistryClient>({
    max: maxClients,
    // Pulls under way may still use it.
    dispose: (client, _, reason) => {
      if (reason === 'evict') client.rest().catch(() => undefined);
    },
  });

  constructor(options: ClientsOptions) {
    this.#options = options;
  }

  /** Mirrors of a reference's registry in order, then the registry itself. `own` comes before the common settings. */
  sourcesOf({ registry, repository }: ImageReference, reach: Reach, own?: PullRegistry): Source[] {
    const { credentials, mirrors, ...transport } = own ?? {};
    const mirrorCredentials = credentials === 'none' ? credentials : undefined;
    const settings = { ...this.#options.registries[registry], ...transport };
    const sources = (mirrors ?? settings.mirrors ?? []).map((mirror) => ({
      client: this.#clientOf(reach, ...this.#mirrorSettings(mirror, transport), mirrorCredentials),
      repository,
    }));
    return [...sources, { client: this.#clientOf(reach, registry, settings, credentials), repository }];
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    const clients = [...this.#clients.values()];
    this.#clients.clear();
    await Promise.all(clients.map((client) => client.close()));
  }

  /** A mirror is a registry of its own, written as `host[:port]` or with the scheme it speaks. */
  #mirrorSettings(
    mirror: string,
    transport: RegistrySettings,
  ): [registry: string, settings: RegistrySettings] {
    const [, scheme, host = ''] = /^(?:(https?):\/\/)?([^/]+)\/?$/.exec(mirror) ?? [
      undefined,
      undefined,
      mirror,
    ];
    const { ca, caFile, skipVerify } = transport;
    const trust = {
      ...(ca === undefined ? {} : { ca }),
      ...(caFile === undefined ? {} : { caFile }),
      ...(skipVerify === undefined ? {} : { skipVerify }),
    };
    const settings = { ...this.#options.registries[host], ...trust };
    return [host, scheme === undefined ? settings : { ...settings, plainHttp: scheme === 'http' }];
  }

  #clientOf(
    reach: Reach,
    registry: string,
    settings: RegistrySettings,
    given?: PullRegistry['credentials'],
  ): RegistryClient {
    // Connections are checked when they are made: who reaches less has clients of its own.
    const key = JSON.stringify([reach, registry, settings, given]);
    const { timeouts } = this.#options;
    const credentials = given
      ? (): Promise<RegistryCredentials | undefined> => Promise.resolve(given === 'none' ? undefined : given)
      : this.#options.credentials;
    const client =
      this.#clients.get(key) ?? new RegistryClient({ registry, settings, credentials, timeouts, reach });
    this.#clients.set(key, client);
    return client;
  }
}
