import { CryoboxError } from '../errors.js';

/** Throws `invalid_argument` for a time that is none. */
export function checkSince(since: unknown): void {
  if (since === undefined || (since instanceof Date && !Number.isNaN(since.getTime()))) return;
  throw new CryoboxError('invalid_argument', '`since` must be a valid Date');
}
