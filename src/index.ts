export * from './api/index.js';
export { CryoboxError, type ErrorCode, isCryoboxError } from './errors.js';
