import { CryoboxError } from '../errors.js';

/** The refusal of an operation of the contract whose room is not built yet. */
export function notYet(operation: string): CryoboxError {
  return new CryoboxError('unsupported', `${operation} is not supported yet`);
}
