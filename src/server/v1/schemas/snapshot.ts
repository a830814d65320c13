import { z } from 'zod';
import { diffLimits, fileChangeKinds } from '../../../api/index.js';
import {
  boxParams,
  named,
  openQuery,
  optionalBody,
  queryFlag,
  queryNumber,
} from '../../http/common-schemas.js';
import { boxLabels, boxName } from './box.js';

/** Longest name of a snapshot in bytes (v1 contract, section 3.7). The runtime says what else is wrong with one. */
const nameBytes = 255;
const snapshotName = z.string().max(nameBytes);

/** Body of `POST .../snapshots`. */
export const snapshotRequest = z.strictObject({
  name: snapshotName,
  memory: z.boolean().optional(),
  quiesce: z.boolean().optional(),
  quiesce_timeout_secs: z.number().positive().max(3600).optional(),
  stop_on_quiesce_fail: z.boolean().optional(),
});

/** `:name` of a snapshot of a box. */
export const snapshotParams = boxParams.extend({ name: snapshotName });

/** Body of `POST .../restore`. */
export const restoreRequest = optionalBody({ live: z.boolean().optional() });

const boxRef = z.string().min(1).max(128);

/** Body of `POST /boxes/adopt`. */
export const adoptRequest = z.strictObject({
  store: z.string().min(1).max(2048),
  box: boxRef,
  name: boxName.optional(),
});

/** Query of `GET .../diff`: names of snapshots and boxes; a box without a snapshot is the box as it is. */
export const diffQuery = z.strictObject({
  from: snapshotName.optional(),
  from_box: boxRef.optional(),
  to: snapshotName.optional(),
  to_box: boxRef.optional(),
  after: z.string().max(8192).optional(),
  limit: queryNumber(1, diffLimits.page).optional(),
});

const fileType = z.enum(['file', 'directory', 'symlink', 'other']).nullable();

/** Answer of `GET .../diff`. */
export const diffBody = z
  .object({
    changes: z.array(
      z.object({
        path: z.string(),
        kind: z.enum(fileChangeKinds),
        type_before: fileType,
        type_after: fileType,
        size_before: z.int().nullable(),
        size_after: z.int().nullable(),
      }),
    ),
    next: z.string().nullable().describe('Give it as "after" for the next page; null: there is none'),
  })
  .register(named, { id: 'DiskDiff' });

/** Body of `POST .../clone`. */
export const cloneRequest = optionalBody({
  name: boxName.optional(),
  from_snapshot: snapshotName.optional(),
  cow: z.boolean().optional(),
  start_after_clone: z.boolean().optional(),
});

/** Body of `POST .../export`. */
export const exportRequest = optionalBody({
  compress: z.boolean().optional(),
  compression_level: z.int().min(1).max(19).optional(),
  include_metadata: z.boolean().optional(),
  env: z.boolean().optional(),
  memory: z.boolean().optional(),
});

/** Query of `POST {p}/boxes/import`. */
export const importQuery = openQuery({ name: boxName.optional(), memory: queryFlag.optional() });

/** Body of `POST {p}/boxes/{id}/fork`. */
export const forkRequest = z.strictObject({
  count: z.int().min(1).max(100),
  names: z.array(boxName).max(100).optional(),
  from_snapshot: snapshotName.optional(),
});

/** Body of `POST /v1/snapshots`: a template. */
export const templateRequest = z.strictObject({
  sandbox_id: z.string().min(1).max(128),
  name: z.string().min(1).max(nameBytes).optional(),
  labels: boxLabels.optional(),
});

/** `:name` of a template. */
export const templateParams = z.strictObject({ name: z.string().min(1).max(nameBytes) });

/** Query of `POST /v1/snapshots`. */
export const templateQuery = z.strictObject({ overwrite: queryFlag.optional() });

/** Query of `GET /v1/snapshots`. */
export const templateListQuery = z.strictObject({ type: z.literal('memory').optional() });

/** `Snapshot` of the v1 contract, section 1.5, and ours. */
export const snapshotBody = z
  .object({
    id: z.string(),
    box_id: z.string(),
    name: z.string(),
    created_at: z.int().describe('Seconds since 1970'),
    size_bytes: z.int(),
    guest_disk_bytes: z.int(),
    container_disk_bytes: z.int(),
    exclusive_bytes: z.int(),
    has_memory: z.boolean(),
    parent: z.string().nullable(),
    consistency: z.enum(['frozen', 'crash', 'clean']),
  })
  .loose()
  .register(named, { id: 'Snapshot' });

/** `Template` of the v1 contract. */
export const templateBody = z
  .object({
    name: z.string(),
    type: z.literal('memory'),
    vcpus: z.int(),
    memory_mb: z.int(),
    size_bytes: z.int(),
    created_at: z.string(),
    labels: z.record(z.string(), z.string()),
  })
  .loose()
  .register(named, { id: 'Template' });
