export { CryoboxError, type ErrorCode, isCryoboxError } from './errors.js';
