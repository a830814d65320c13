import { CryoboxError } from '../errors.js';
import { objectLimits } from './object-store.js';

const form = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}(\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254})*$/;

/**
 * Checks a key: parts of letters, digits, `.`, `_` and `-`, none beginning with a dot, with `/` between. Such a key is
 * the same in a URL, in a signature and as a path. Throws `invalid_argument`.
 */
export function checkKey(key: string): void {
  if (key.length <= objectLimits.keyLength && form.test(key)) return;
  throw new CryoboxError('invalid_argument', `${JSON.stringify(key)} cannot be the key of an object`);
}

/** Checks the beginning of keys: nothing, a key, or a key and `/`. Throws `invalid_argument`. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

/** Checks the size of what is read at once. Throws `invalid_argument`. */
export function checkRange(offset: number, length: number): void {
  const isRange = Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length > 0;
  if (isRange && length <= objectLimits.readBytes) return;
  throw new CryoboxError(
    'invalid_argument',
    `at most ${objectLimits.readBytes} bytes of an object are read at once, got ${length} from ${offset}`,
  );
}

/** Checks the size of what is put. Throws `payload_too_large`. */
export function checkSize(key: string, sizeBytes: number): void {
  if (sizeBytes <= objectLimits.objectBytes) return;
  throw new CryoboxError(
    'payload_too_large',
    `object ${key} has ${sizeBytes} bytes; at most ${objectLimits.objectBytes} are put`,
  );
}
