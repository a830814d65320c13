export { type Database, isUniqueViolation, openDatabase, openSqlite } from './database.js';
export * from './layers.js';
export type {
  BoxChanges,
  BoxRow,
  GoldenRow,
  ImageRow,
  LayerRow,
  MachineRow,
  NewBoxRow,
  Schema,
} from './schema.js';
