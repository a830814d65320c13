export * from './api/index.js';
export { Cryobox } from './cryobox.js';
export { CryoboxError, type ErrorCode, isCryoboxError } from './errors.js';
export type { LocalOptions } from './home/index.js';
export type { RemoteOptions } from './remote/index.js';
