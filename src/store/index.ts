export { type Database, isUniqueViolation, openDatabase, openSqlite } from './database.js';
export { GroupCommit } from './group-commit.js';
export * from './layers.js';
export type {
  ApiKeyRow,
  BoxChanges,
  BoxRow,
  GoldenRow,
  ImageRow,
  LayerRow,
  MachineRow,
  MemoryRow,
  NewBoxRow,
  Schema,
  SnapshotRow,
  TemplateRow,
  VolumeRow,
} from './schema.js';
