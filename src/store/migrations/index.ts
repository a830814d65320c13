import type { Migration } from 'kysely';
import { boxes } from './001-boxes.js';
import { snapshots } from './002-snapshots.js';
import { apiKeys } from './003-api-keys.js';
import { memory } from './004-memory.js';
import { volumes } from './005-volumes.js';
import { idempotencyKeys } from './006-idempotency-keys.js';

/** Every migration by its name, in order. A released one never changes; a new one is added at the end. */
export const migrations: Record<string, Migration> = {
  '001-boxes': boxes,
  '002-snapshots': snapshots,
  '003-api-keys': apiKeys,
  '004-memory': memory,
  '005-volumes': volumes,
  '006-idempotency-keys': idempotencyKeys,
};
