import type { Route } from '../http/route.js';
import type { E2bContext } from './context.js';
import { envdRoutes } from './envd/index.js';
import { lifecycleRoutes } from './lifecycle.js';
import { listingRoutes } from './listing.js';
import { metricsRoutes } from './metrics.js';
import { networkRoutes } from './network-routes.js';
import { sandboxRoutes } from './sandboxes.js';
import { serviceRoutes } from './service.js';
import { snapshotRoutes } from './snapshot-routes.js';

export { rewrittenUrl } from './address.js';
export { createContext, type E2bContext, type E2bOptions } from './context.js';
export { e2bPorts } from './ports.js';

/** Every route of E2B's API, in one list: the control plane, and the inside of sandboxes. */
export function e2bRoutes(ctx: E2bContext): Route[] {
  return [
    ...metricsRoutes(),
    ...serviceRoutes(),
    ...sandboxRoutes(ctx),
    ...listingRoutes(),
    ...lifecycleRoutes(ctx),
    ...snapshotRoutes(ctx),
    ...networkRoutes(),
    ...envdRoutes(ctx),
  ];
}
