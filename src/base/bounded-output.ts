import { StringDecoder } from 'node:string_decoder';

/** What was kept of a stream, and how much it was in all. */
export interface KeptOutput {
  /** As UTF-8, with a line in the place of what was cut. */
  readonly text: string;
  /** The first and the last part, without a mark between them. */
  readonly raw: Buffer;
  readonly bytes: number;
  readonly cutBytes: number;
}

/** Keeps the first and the last half of a limit of bytes: what a command says first and last is what its reader looks for. */
export class BoundedOutput {
  readonly #half: number;
  readonly #head: Uint8Array[] = [];
  #headBytes = 0;
  /** The newest chunks; the first of them may be older than what is kept. */
  #tail: Uint8Array[] = [];
  #tailBytes = 0;
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#half = Math.floor(limitBytes / 2);
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    const first = chunk.subarray(0, this.#half - this.#headBytes);
    if (first.length > 0) this.#head.push(first);
    this.#headBytes += first.length;
    const rest = chunk.subarray(first.length);
    if (rest.length === 0) return;
    this.#tail.push(rest);
    this.#tailBytes += rest.length;
    // Put together only once it is twice as much as is kept: that costs each byte one copy.
    if (this.#tailBytes > 2 * this.#half + rest.length) {
      this.#tail = [Buffer.from(this.#lastBytes())];
      this.#tailBytes = this.#tail[0]?.length ?? 0;
    }
  }

  /** What there is now, with a line that says what is missing. */
  kept(): KeptOutput {
    const head = Buffer.concat(this.#head);
    const tail = this.#lastBytes();
    const raw = Buffer.concat([head, tail]);
    const cutBytes = this.#bytes - raw.length;
    if (cutBytes === 0) return { text: raw.toString(), raw, bytes: this.#bytes, cutBytes };
    // The pieces of a character that was cut in two are left out.
    const before = new StringDecoder('utf8').write(head);
    const after = tail.subarray(continuationBytes(tail)).toString();
    return {
      text: `${before}\n[... ${cutBytes} bytes cut ...]\n${after}`,
      raw,
      bytes: this.#bytes,
      cutBytes,
    };
  }

  #lastBytes(): Buffer {
    const all = Buffer.concat(this.#tail);
    return all.subarray(Math.max(0, all.length - this.#half));
  }
}

/** Bytes at the start that belong to a character before it. */
function continuationBytes(bytes: Buffer): number {
  let count = 0;
  while (count < Math.min(3, bytes.length) && ((bytes[count] ?? 0) & 0xc0) === 0x80) count += 1;
  return count;
}

/** Reads a stream to its end. */
export async function collectBounded(source: AsyncIterable<Uint8Array>, into: BoundedOutput): Promise<void> {
  for await (const chunk of source) into.add(chunk);
}
