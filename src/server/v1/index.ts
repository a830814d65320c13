import type { Route } from '../http/route.js';
import { attachRoutes } from './attach.js';
import { boxRoutes } from './boxes.js';
import { copyRoutes } from './copies.js';
import { engineRoutes } from './engine.js';
import { executionRoutes } from './executions.js';
import { filesRoutes } from './files.js';
import { imageRoutes } from './images.js';
import { lifecycleRoutes } from './lifecycle.js';
import { logRoutes } from './logs.js';
import { observeRoutes } from './observe.js';
import { portRoutes } from './ports.js';
import { previewRoutes } from './previews.js';
import { secretRoutes } from './secrets.js';
import { serviceRoutes } from './service.js';
import { snapshotRoutes } from './snapshots.js';
import { templateRoutes } from './templates.js';
import { tunnelRoutes } from './tunnel.js';
import { volumeRoutes } from './volumes.js';
import { watchRoutes } from './watching.js';

/** Every operation of the REST API, in one list. */
export const routes: readonly Route[] = [
  ...serviceRoutes,
  ...boxRoutes,
  ...lifecycleRoutes,
  ...executionRoutes,
  ...logRoutes,
  ...attachRoutes,
  ...filesRoutes,
  ...watchRoutes,
  ...snapshotRoutes,
  ...copyRoutes,
  ...imageRoutes,
  ...templateRoutes,
  ...volumeRoutes,
  ...portRoutes,
  ...previewRoutes,
  ...secretRoutes,
  ...observeRoutes,
  ...tunnelRoutes,
  ...engineRoutes,
];
