import type { Route } from '../route.js';
import { attachRoutes } from './attach.js';
import { boxRoutes } from './boxes.js';
import { copyRoutes } from './copies.js';
import { executionRoutes } from './executions.js';
import { filesRoutes } from './files.js';
import { imageRoutes } from './images.js';
import { lifecycleRoutes } from './lifecycle.js';
import { observeRoutes } from './observe.js';
import { serviceRoutes } from './service.js';
import { snapshotRoutes } from './snapshots.js';
import { templateRoutes } from './templates.js';
import { tunnelRoutes } from './tunnel.js';
import { volumeRoutes } from './volumes.js';

/** Every operation of the REST API, in one list. */
export const routes: readonly Route[] = [
  ...serviceRoutes,
  ...boxRoutes,
  ...lifecycleRoutes,
  ...executionRoutes,
  ...attachRoutes,
  ...filesRoutes,
  ...snapshotRoutes,
  ...copyRoutes,
  ...imageRoutes,
  ...templateRoutes,
  ...volumeRoutes,
  ...observeRoutes,
  ...tunnelRoutes,
];
