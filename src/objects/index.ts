export * from './documents.js';
export type {
  ListOptions,
  ObjectAccess,
  ObjectFacts,
  ObjectPage,
  ObjectSource,
  ObjectStore,
  PutOptions,
  ReadOptions,
} from './object-store.js';
export { objectLimits } from './object-store.js';
export { openObjectStore } from './open.js';
export * from './presigned.js';
export { S3Store } from './s3.js';
export * from './sources.js';
export * from './verified.js';
