/** Longest beginning of a character that may be missing its rest. */
const maxPartialBytes = 3;

/** Length of the character a lead byte announces (RFC 3629, section 3), or 0 when it is no lead byte. */
function announcedLength(byte: number): number {
  if (byte < 0x80) return 1;
  if (byte >= 0xc2 && byte <= 0xdf) return 2;
  if (byte >= 0xe0 && byte <= 0xef) return 3;
  if (byte >= 0xf0 && byte <= 0xf4) return 4;
  return 0;
}

/** How many bytes at the end of `bytes` are the beginning of a character whose rest is missing. 0 to 3. */
export function partialCharacterBytes(bytes: Uint8Array): number {
  const furthest = Math.min(maxPartialBytes, bytes.length);
  for (let back = 1; back <= furthest; back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    const continuation = (byte & 0xc0) === 0x80;
    if (continuation) continue;
    return announcedLength(byte) > back ? back : 0;
  }
  return 0;
}

/**
 * Cuts a stream of bytes into pieces of at most `maxBytes` that begin and end at borders of UTF-8 characters. v1
 * clients decode every frame by itself, so a character cut in two would reach them as two wrong ones. Bytes that are
 * not UTF-8 pass through unchanged.
 */
export class Utf8Cutter {
  readonly #maxBytes: number;
  #held: Uint8Array = new Uint8Array(0);

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether the beginning of a character is held back. */
  get holds(): boolean {
    return this.#held.length > 0;
  }

  /** The pieces that are complete now. */
  push(chunk: Uint8Array): Uint8Array[] {
    let rest: Uint8Array = this.holds ? Buffer.concat([this.#held, chunk]) : chunk;
    const pieces: Uint8Array[] = [];
    while (rest.length > this.#maxBytes) {
      const window = rest.subarray(0, this.#maxBytes);
      const cut = this.#maxBytes - partialCharacterBytes(window);
      pieces.push(rest.subarray(0, cut));
      rest = rest.subarray(cut);
    }
    const kept = partialCharacterBytes(rest);
    const complete = rest.subarray(0, rest.length - kept);
    if (complete.length > 0) pieces.push(complete);
    // A copy: a few bytes must not keep a large chunk alive.
    this.#held = Uint8Array.from(rest.subarray(rest.length - kept));
    return pieces;
  }

  /** What was held back. */
  flush(): Uint8Array[] {
    const held = this.#held;
    this.#held = new Uint8Array(0);
    return held.length > 0 ? [held] : [];
  }
}
