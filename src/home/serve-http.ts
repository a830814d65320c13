import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { homePaths } from '../engine/core/home.js';
import { checkRegistryNames, type EngineOptions } from '../engine/index.js';
import { CryoboxError } from '../errors.js';
import {
  type Authenticator,
  createServer,
  type HiddenDirectory,
  isLoopback,
  keyAuthenticator,
  type ListenAddress,
  type ListenOptions,
  type TlsOptions,
} from '../server/index.js';
import { readStandIns } from './e2b-settings.js';
import { takeOver } from './ensure.js';
import { ApiKeys } from './keys.js';
import { previewBase } from './preview-base.js';
import { type ServedEngine, serveEngine } from './serve.js';

export { defaultHome } from '../engine/core/home.js';

/** How a home is served to others. */
export interface ServeHttpOptions extends EngineOptions {
  /** @default 127.0.0.1, port 8100 */
  readonly listen?: ListenOptions;
  readonly tls?: TlsOptions;
  /** Names that requests without a key may be for, beside those of the loopback interface. @default none */
  readonly allowedHosts?: readonly string[];
  /** Origins, such as `https://dash.example`, whose web pages may use the API. @default none */
  readonly allowedOrigins?: readonly string[];
  /**
   * Registries, `host` or `host:port` as references name them, that callers over HTTP may pull from although they are not
   * on the public internet. Those that `registries.json` of the home names are allowed too. @default none
   */
  readonly allowedRegistries?: readonly string[];
  /**
   * Lets requests without a key in although the home had keys, while it has none; on the loopback interface only.
   * @default false
   */
  readonly allowAnonymous?: boolean;
  /**
   * Where previews are found: a wildcard name that leads to this server, `name` or `name:port`, or an URL such as
   * `https://previews.example` for who reaches it through a proxy. @default `localhost` and the port
   */
  readonly previewDomain?: string;
  /** Wildcard name that leads to this server, for tunnels to ports of boxes. */
  readonly tunnelDomain?: string;
  /** Name that leads to this server, for E2B's clients: they find ports of sandboxes below it. @default e2b.local */
  readonly e2bDomain?: string;
  /** Shown by `/healthz` and OpenAPI. */
  readonly version?: string;
}

/** A home that is served over HTTP, and on its socket. */
export interface ServedHome extends AsyncDisposable {
  readonly address: ListenAddress;
  /** Whether requests needed a key when it began; the first key switches that on. */
  readonly authenticated: boolean;
  /** Whether there was a key then that was not revoked. */
  readonly hasKeys: boolean;
  /** Stops answering and lets go of the home; machines go on. */
  close(): Promise<void>;
}

/**
 * Asks for keys from the moment the home has the first one, also one made while the server runs; and goes on to ask
 * when all of them are revoked, unless it is allowed not to.
 */
function authenticatorOf(
  keys: ApiKeys,
  allowAnonymous: boolean,
): Authenticator & { isRequired(): Promise<boolean> } {
  let everMade = false;
  return {
    ...keyAuthenticator(keys),
    isRequired: async () => {
      if (allowAnonymous) return await keys.exist();
      everMade ||= await keys.everMade();
      return everMade;
    },
  };
}

/** Without a key only those of this host may ever be let in. */
function refuseOpenHost({ listen = {}, allowAnonymous }: ServeHttpOptions): void {
  if (!allowAnonymous || !('host' in listen) || listen.host === undefined || isLoopback(listen.host)) return;
  throw new CryoboxError('config_error', `Requests without a key are not allowed on ${listen.host}`, {
    hint: 'Listen on 127.0.0.1, or leave the permission for requests without a key out.',
  });
}

/**
 * Opens the engine of a home and serves the REST API. A home that has, or had, keys asks for them; one without is served
 * on the loopback address only. An engine in the background is asked to hand the home over. Throws `home_in_use` when
 * somebody else has it and keeps it, `config_error`, `invalid_argument` for names that cannot be.
 */
export async function serveHttp(options: ServeHttpOptions): Promise<ServedHome> {
  refuseOpenHost(options);
  const allowedRegistries = checkRegistryNames(options.allowedRegistries ?? []);
  const open = () => serveEngine({ ...options, kind: 'serve' });
  const served = await takeOver(homePaths(options.home), open);
  try {
    return await serveOver(served, { ...options, allowedRegistries });
  } catch (error) {
    await served.close();
    throw error;
  }
}

/** Where the home is, and where the host keeps what it needs for a moment, is nothing for callers from elsewhere. */
function hiddenOf(home: string): HiddenDirectory[] {
  return [
    { path: resolve(home), name: 'HOME' },
    { path: tmpdir(), name: 'TMP' },
  ];
}

async function serveOver(served: ServedEngine, options: ServeHttpOptions): Promise<ServedHome> {
  const { listen, tls, tunnelDomain, version, allowedHosts, allowedOrigins, allowedRegistries } = options;
  const keys = await ApiKeys.open(options.home);
  const authenticator = authenticatorOf(keys, options.allowAnonymous ?? false);
  const [authenticated, hasKeys] = [await authenticator.isRequired(), await keys.exist()];
  const seed = await keys.tokenSeed();
  const server = createServer({
    runtimeFor: (tenant, access) => served.engine.runtime(tenant, { ...access, allowedRegistries }),
    authenticator,
    idempotency: served.idempotency,
    logger: options.logger,
    tls,
    tunnelDomain,
    previews: served.engine.previews,
    allowedHosts,
    allowedOrigins,
    version,
    hiddenDirectories: hiddenOf(options.home),
    browser: { seed },
    e2b: {
      seed,
      tenantOf: (boxId) => served.engine.tenantOf(boxId),
      runningBoxes: () => served.engine.runningBoxes(),
      domain: options.e2bDomain,
      standIns: () => readStandIns(join(options.home, 'e2b.json')),
    },
  });
  // The home is let go of last, and in any case.
  const close = async (): Promise<void> => {
    served.engine.previews.serveAt(undefined);
    try {
      await server.close();
      await keys[Symbol.asyncDispose]();
    } finally {
      await served.close();
    }
  };
  try {
    const address = await server.listen(listen);
    served.engine.previews.serveAt(previewBase(address.url, options.previewDomain));
    return { address, authenticated, hasKeys, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}
