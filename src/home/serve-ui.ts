import { randomBytes } from 'node:crypto';
import type { Runtime } from '../api/index.js';
import type { Logger } from '../base/log.js';
import { isSecret } from '../base/secret.js';
import { createServer, newApiKey, type Principal, scopes } from '../server/index.js';

/** How the dashboard is shown to the user of this host. */
export interface ServeUiOptions {
  /** Whose boxes it shows; stays the caller's. */
  readonly runtime: Runtime;
  /** On the loopback address. @default one that is free */
  readonly port?: number;
  /** @default silent */
  readonly logger?: Logger;
}

/** A dashboard that is being shown. */
export interface ServedUi extends AsyncDisposable {
  /** Where to go with a browser: lets the first one in, once. */
  readonly link: string;
}

/** What is after `#` is not sent to servers, and stands in no log. */
const linkBytes = 24;

/**
 * Serves the dashboard over a runtime to one browser of this host: the engine of a home answers on a socket that browsers
 * cannot reach. Nobody has its key but the session that the link begins. Throws `config_error` when it cannot listen.
 */
export async function serveUi({ runtime, port = 0, logger }: ServeUiOptions): Promise<ServedUi> {
  const { key } = newApiKey();
  const token = randomBytes(linkBytes).toString('base64url');
  const user: Principal = { id: 'dashboard', tenant: '', scopes, expiresAt: null };
  const server = createServer({
    runtimeFor: () => runtime,
    authenticator: { authenticate: async (given) => (isSecret(key, given) ? user : null) },
    browser: { link: { token, key } },
    logger,
  });
  const { url } = await server.listen({ port });
  return { link: `${url}/ui/#link=${token}`, [Symbol.asyncDispose]: () => server.close() };
}
