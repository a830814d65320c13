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
