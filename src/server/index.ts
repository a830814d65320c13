/** HTTP server over the interfaces of `src/api`. */

export type { EngineKind } from '../wire/engine.js';
export type { Authenticator, Principal, Scope } from './http/auth.js';
export { scopes } from './http/auth.js';
export type { HiddenDirectory } from './http/errors.js';
export { Idempotency } from './http/idempotency.js';
export {
  type ApiKeyRecord,
  type KeyForm,
  type KeyStore,
  keyAuthenticator,
  newApiKey,
} from './http/keys.js';
export type { ServerLimits } from './http/limits.js';
export { isLoopback, type ListenAddress, type ListenOptions, type TlsOptions } from './http/listen.js';
export type { EngineControl } from './http/parts.js';
export { isTenantPrefix } from './http/prefix.js';
export { createServer, type Server, type ServerOptions } from './server.js';
