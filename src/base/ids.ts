import { randomBytes } from 'node:crypto';

/** Crockford's base32 alphabet in lower case: no i, l, o, u. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
const timeChars = 10;
const randomChars = 16;

/** What an id names; its prefix says it to the reader of a log. */
export type IdPrefix = 'box' | 'lay' | 'snp' | 'tpl' | 'img' | 'mch' | 'exe' | 'vol' | 'key' | 'opn' | 'mem';

/**
 * A new id, unique on every host and sortable by time: prefix, `_`, 48 bits of milliseconds and 80 random bits in
 * base32, such as `box_01k9c3v6w0m4tq8e2x5r7hj1np`. Only `[a-z0-9_]`, 30 characters.
 */
export function newId(prefix: IdPrefix): string {
  let time = Date.now();
  let timePart = '';
  for (let i = 0; i < timeChars; i += 1) {
    timePart = alphabet.charAt(time % 32) + timePart;
    time = Math.floor(time / 32);
  }
  let randomPart = '';
  for (const byte of randomBytes(randomChars)) randomPart += alphabet.charAt(byte % 32);
  return `${prefix}_${timePart}${randomPart}`;
}
