/**
 * Names of files as "binary strings": one char per byte, so that names which are not UTF-8 survive, and can be compared,
 * split at slashes and be keys.
 */

/** A binary string (one char per byte) from bytes. */
export function fromBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

/** The bytes of a binary string. */
export function toBytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** The binary string of a text: its bytes in UTF-8. */
export function fromText(text: string): string {
  return fromBytes(Buffer.from(text));
}

/** How long a name may get in a message. */
const shownNameChars = 200;

/** A binary string for a message: as UTF-8, quoted, control characters escaped, cut at 200 characters. */
export function showName(name: string): string {
  const text = toBytes(name).toString('utf8');
  return JSON.stringify(text.length > shownNameChars ? `${text.slice(0, shownNameChars)}...` : text);
}

/** Stretches of a binary string that are UTF-8 (RFC 3629, section 4). */
const validUtf8 =
  /(?:[^\x80-\xff]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+|[\x80-\xff]/g;

/**
 * A binary string as text, as the agent names files too: a byte that is not of UTF-8 becomes the lone surrogate U+DC00 plus
 * its value, so that no two names become the same text.
 */
export function toText(name: string): string {
  return name.replace(validUtf8, (part) => {
    const isBad = part.length === 1 && part > '\x7f';
    return isBad ? String.fromCharCode(0xdc00 + part.charCodeAt(0)) : toBytes(part).toString('utf8');
  });
}
