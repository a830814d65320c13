import type { Migration } from 'kysely';
import { boxes } from './001-boxes.js';
import { snapshots } from './002-snapshots.js';
import { apiKeys } from './003-api-keys.js';
import { memory } from './004-memory.js';
import { volumes } from './005-volumes.js';
import { idempotencyKeys } from './006-idempotency-keys.js';
import { boxUse } from './008-box-use.js';
import { mainExit } from './012-main-exit.js';
import { manyBoxes } from './014-many-boxes.js';
import { gateways } from './016-gateways.js';
import { ports } from './020-ports.js';
import { replicas } from './021-replicas.js';
import { limits } from './022-limits.js';
import { previews } from './023-previews.js';
import { inbound } from './024-inbound.js';
import { runEnds } from './027-run-ends.js';
import { secrets } from './028-secrets.js';
import { buildSteps } from './029-build-steps.js';
import { templateLabels } from './032-template-labels.js';
import { departures } from './036-departures.js';

/** Every migration by its name, in order. A released one never changes; a new one is added at the end. */
export const migrations: Record<string, Migration> = {
  '001-boxes': boxes,
  '002-snapshots': snapshots,
  '003-api-keys': apiKeys,
  '004-memory': memory,
  '005-volumes': volumes,
  '006-idempotency-keys': idempotencyKeys,
  '008-box-use': boxUse,
  '012-main-exit': mainExit,
  '014-many-boxes': manyBoxes,
  '016-gateways': gateways,
  '020-ports': ports,
  '021-replicas': replicas,
  '022-limits': limits,
  '023-previews': previews,
  '024-inbound': inbound,
  '027-run-ends': runEnds,
  '028-secrets': secrets,
  '029-build-steps': buildSteps,
  '032-template-labels': templateLabels,
  '036-departures': departures,
};
