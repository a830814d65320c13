import { createHash, randomBytes } from 'node:crypto';

/** Crockford's base32 alphabet in lower case: no i, l, o, u. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
const timeChars = 10;
const randomChars = 16;

/** What an id names; its prefix says it to the reader of a log. */
export type IdPrefix =
  | 'box'
  | 'lay'
  | 'snp'
  | 'tpl'
  | 'img'
  | 'mch'
  | 'exe'
  | 'vol'
  | 'key'
  | 'opn'
  | 'mem'
  | 'run'
  | 'prv';

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
  return `${prefix}_${timePart}${textOf(randomBytes(randomChars))}`;
}

/** Whether a text is an id of that kind. */
export function isId(prefix: IdPrefix, text: string): boolean {
  return text.startsWith(`${prefix}_`) && /^[0-9a-hjkmnp-tv-z]{26}$/.test(text.slice(prefix.length + 1));
}

/**
 * The id of the `index`th thing that the operation with an id makes for somebody: always the same, of the operation's
 * time, and as hard to guess as the operation's id.
 */
export function idFrom(prefix: IdPrefix, operationId: string, owner: string, index: number): string {
  const timePart = operationId.slice(-timeChars - randomChars, -randomChars);
  const hash = createHash('sha256')
    .update(JSON.stringify([operationId, owner, index]))
    .digest();
  return `${prefix}_${timePart}${textOf(hash.subarray(0, randomChars))}`;
}

function textOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += alphabet.charAt(byte % 32);
  return text;
}
