/**
 * The engine in a program: `import { Cryobox } from 'cryobox'`.
 *
 * @module cryobox
 */
export * from './api/index.js';
export type { Logger } from './base/log.js';
export { Cryobox } from './cryobox.js';
export {
  CryoboxError,
  type ErrorCode,
  type ErrorDetails,
  type ErrorFault,
  isCryoboxError,
} from './errors.js';
export type { LocalOptions } from './home/index.js';
export type { RemoteOptions } from './remote/index.js';
