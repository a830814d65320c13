/** HTTP server over the interfaces of `src/api`. */
export type { Authenticator, Principal, Scope } from './auth.js';
export { scopes } from './auth.js';
export { Idempotency } from './idempotency.js';
export { type ApiKeyRecord, type KeyStore, keyAuthenticator, newApiKey } from './keys.js';
export type { ServerLimits } from './limits.js';
export type { ListenAddress, ListenOptions, TlsOptions } from './listen.js';
export { isTenantPrefix } from './prefix.js';
export { createServer, type Server, type ServerOptions } from './server.js';
