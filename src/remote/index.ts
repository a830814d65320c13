/**
 * Runtimes behind a server, without native dependencies: `import { connectRuntime } from 'cryobox/remote'`.
 *
 * @module cryobox/remote
 */
import type { Runtime } from '../api/index.js';
import type { RemoteOptions } from './address.js';
import { openRemote } from './open.js';

export type * from '../api/index.js';
export {
  CryoboxError,
  type ErrorCode,
  type ErrorDetails,
  type ErrorFault,
  isCryoboxError,
} from '../errors.js';
export type { RemoteOptions } from './address.js';

/**
 * The runtime of a server, by `url`, or of an engine of this host, by `socketPath`. Connects at the first call, which
 * then fails with `network_unavailable` where nobody listens. `invalid_argument` for a bad URL.
 */
export function connectRuntime(options: RemoteOptions): Runtime {
  return openRemote(options);
}
