import type { Runtime } from '../../api/index.js';
import type { Logger } from '../../base/log.js';
import type { EngineHello } from '../../wire/engine.js';
import type { AccessWatch } from './access-watch.js';
import type { Authenticator, RuntimeAccess } from './auth.js';
import type { BrowserSessions } from './browser-sessions.js';
import type { Connections } from './connections.js';
import type { ErrorWriter } from './errors.js';
import type { Idempotency } from './idempotency.js';
import type { ServerLimits } from './limits.js';
import type { ServerMetrics } from './metrics.js';
import type { Sessions } from './sessions.js';
import type { Tunnels } from './tunnels.js';

/** The engine behind the socket of a home. */
export interface EngineControl {
  readonly hello: EngineHello;
  /**
   * Resolves when the engine is about to let go of its home. Throws `home_in_use` when it does not do so, `conflict` when
   * something is under way for too long, `cancelled`.
   */
  handOver(signal: AbortSignal): Promise<void>;
}

/** What the routes of one server share. */
export interface Parts {
  readonly runtimeFor: (tenant: string, access: RuntimeAccess) => Runtime;
  readonly authenticator: Authenticator | null;
  readonly access: AccessWatch;
  readonly browsers: BrowserSessions;
  readonly connections: Connections;
  readonly errors: ErrorWriter;
  readonly logger: Logger;
  readonly limits: ServerLimits;
  readonly metrics: ServerMetrics;
  readonly idempotency: Idempotency;
  readonly sessions: Sessions;
  readonly tunnels: Tunnels;
  readonly version: string;
  /** Only on the socket of a home. */
  readonly engine: EngineControl | undefined;
  /** Set when the server closes: nothing new is begun, and what was cut off is not the client's doing. */
  readonly closing: AbortSignal;
  /** The OpenAPI document of this server. */
  readonly openapi: () => unknown;
}
