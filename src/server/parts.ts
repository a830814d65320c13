import type { Runtime } from '../api/index.js';
import type { Logger } from '../base/log.js';
import type { Authenticator } from './auth.js';
import type { Idempotency } from './idempotency.js';
import type { ServerLimits } from './limits.js';
import type { ServerMetrics } from './metrics.js';
import type { Sessions } from './sessions.js';
import type { Tunnels } from './tunnels.js';

/** What the routes of one server share. */
export interface Parts {
  readonly runtimeFor: (tenant: string) => Runtime;
  readonly authenticator: Authenticator | null;
  readonly logger: Logger;
  readonly limits: ServerLimits;
  readonly metrics: ServerMetrics;
  readonly idempotency: Idempotency;
  readonly sessions: Sessions;
  readonly tunnels: Tunnels;
  readonly version: string;
  /** The OpenAPI document of this server. */
  readonly openapi: () => unknown;
}
