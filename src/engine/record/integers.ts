import { CryoboxError } from '../../errors.js';

/** Throws `invalid_argument` unless a value is absent or a whole number within bounds. */
export function checkInteger(name: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined) return;
  if (Number.isInteger(value) && value >= min && value <= max) return;
  const message = `${name} must be a whole number from ${min} to ${max}, got ${value}`;
  throw new CryoboxError('invalid_argument', message);
}
