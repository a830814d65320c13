export * from './api-keys.js';
export * from './boot.js';
export * from './box-list.js';
export * from './box-use.js';
export * from './boxes.js';
export * from './build-steps.js';
export * from './counters.js';
export {
  type Database,
  databaseError,
  databaseFailure,
  isHomeDatabase,
  isUniqueViolation,
  openDatabase,
  openSqlite,
  sqliteDriver,
} from './database.js';
export * from './departures.js';
export * from './garbage.js';
export * from './goldens.js';
export { GroupCommit } from './group-commit.js';
export * from './holds.js';
export * from './idempotency-keys.js';
export * from './ids.js';
export * from './image-disks.js';
export * from './images.js';
export * from './inbound.js';
export * from './layer-uses.js';
export * from './layers.js';
export * from './limits.js';
export * from './machines.js';
export * from './memories.js';
export * from './owned.js';
export * from './ports.js';
export * from './previews.js';
export * from './references.js';
export * from './replicas.js';
export * from './run-ends.js';
export type {
  ApiKeyRow,
  BoxChanges,
  BoxRow,
  GoldenRow,
  ImageRow,
  LayerRow,
  MachineChanges,
  MachineRow,
  MemoryRow,
  NewBoxRow,
  PortRow,
  PreviewRow,
  Schema,
  SecretRow,
  SnapshotRow,
  TemplateRow,
  VolumeRow,
} from './schema.js';
export * from './secrets.js';
export * from './snapshots.js';
export * from './templates.js';
export * from './token-seed.js';
export * from './tree.js';
export * from './unfinished.js';
export * from './usage.js';
export * from './volumes.js';
