import type { EngineOptions } from '../engine/index.js';
import {
  createServer,
  keyAuthenticator,
  type ListenAddress,
  type ListenOptions,
  type TlsOptions,
} from '../server/index.js';
import { ApiKeys } from './keys.js';
import { serveEngine } from './serve.js';

export { defaultHome } from '../engine/home.js';

/** How a home is served to others. */
export interface ServeHttpOptions extends EngineOptions {
  /** @default 127.0.0.1, port 8100 */
  readonly listen?: ListenOptions;
  readonly tls?: TlsOptions;
  /** Wildcard name that leads to this server, for tunnels to ports of boxes. */
  readonly tunnelDomain?: string;
  /** Shown by `/healthz` and OpenAPI. */
  readonly version?: string;
}

/** A home that is served over HTTP, and on its socket. */
export interface ServedHome extends AsyncDisposable {
  readonly address: ListenAddress;
  /** Whether requests need a key. */
  readonly authenticated: boolean;
  /** Stops answering and lets go of the home; machines go on. */
  close(): Promise<void>;
}

/**
 * Opens the engine of a home and serves the REST API. A home that has keys asks for them; one without is served on the
 * loopback address only. Throws `home_in_use`, `config_error`.
 */
export async function serveHttp(options: ServeHttpOptions): Promise<ServedHome> {
  const { listen, tls, tunnelDomain, version, ...engineOptions } = options;
  const served = await serveEngine(engineOptions);
  const keys = await ApiKeys.open(options.home);
  const authenticated = (await keys.list()).length > 0;
  const server = await createServer({
    runtimeFor: (tenant) => served.engine.runtime(tenant),
    authenticator: authenticated ? keyAuthenticator(keys) : null,
    idempotency: served.idempotency,
    logger: options.logger,
    tls,
    tunnelDomain,
    version,
  });
  const close = async (): Promise<void> => {
    await server.close();
    await keys[Symbol.asyncDispose]();
    await served.close();
  };
  try {
    const address = await server.listen(listen);
    return { address, authenticated, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
