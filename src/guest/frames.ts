/**
 * Frames between engine and agent (docs/PROTOCOL.md, sections 2 and 3): u32 header length, u32 payload length, both
 * big-endian, a JSON object, raw bytes. A connection starts with a preamble of {@link magic} and a nonce.
 */
import { parseJson } from '../base/json.js';
import { CryoboxError } from '../errors.js';
import { brokenAgent } from './answers.js';

/** Largest JSON header: the agent refuses longer ones. It bounds argv and env of an execution. */
export const maxHeaderBytes = 64 * 1024;
/** Largest payload of one frame: streams take turns at this grain. */
export const maxPayloadBytes = 64 * 1024;
/** Bytes of the nonce of a preamble. */
export const nonceBytes = 16;
/** Starts every preamble. Its first byte makes it an impossible header length. */
export const magic = Buffer.from('\xffcryobox-agent\r\n', 'latin1');

/** A decoded frame. */
export interface Frame {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Buffer;
}

const prefixBytes = 8;
/** A page of 200 executions, the largest header of an agent, has some 3,200 values, no deeper than four. */
const headerBounds = { maxValues: 8192, maxDepth: 16 };

/**
 * A frame as bytes: prefix and header in one buffer, the payload untouched in a second one when there is any.
 * @throws CryoboxError `payload_too_large` when header or payload is beyond its limit.
 */
export function encodeFrame(header: Readonly<Record<string, unknown>>, payload?: Uint8Array): Uint8Array[] {
  const text = Buffer.from(JSON.stringify(header), 'utf8');
  const payloadLength = payload?.byteLength ?? 0;
  if (text.length > maxHeaderBytes) {
    throw new CryoboxError(
      'payload_too_large',
      `a request of ${text.length} bytes, at most ${maxHeaderBytes} fit: shorten arguments and environment`,
    );
  }
  if (payloadLength > maxPayloadBytes) {
    throw new CryoboxError(
      'payload_too_large',
      `a payload of ${payloadLength} bytes, at most ${maxPayloadBytes} fit`,
    );
  }
  const head = Buffer.allocUnsafe(prefixBytes + text.length);
  head.writeUInt32BE(text.length, 0);
  head.writeUInt32BE(payloadLength, 4);
  text.copy(head, prefixBytes);
  return payload === undefined || payloadLength === 0 ? [head] : [head, payload];
}

/** Turns bytes, in pieces of any size, into frames. Holds at most one frame and one piece. */
export class FrameDecoder {
  #chunks: Buffer[] = [];
  #length = 0;
  #needed = prefixBytes;
  #expected: Buffer | undefined;

  /** Skips everything up to the magic and this nonce, which may be in pieces still to come. */
  awaitPreamble(nonce: Uint8Array): void {
    this.#expected = Buffer.concat([magic, nonce]);
  }

  /** Whether the preamble waited for has come. */
  get synchronised(): boolean {
    return this.#expected === undefined;
  }

  /** Takes bytes, of which {@link next} makes frames. */
  take(piece: Buffer): void {
    this.#chunks.push(piece);
    this.#length += piece.length;
    if (this.#expected !== undefined) this.#seek(this.#expected);
  }

  /**
   * The next frame that is whole, if there is one.
   * @throws CryoboxError `agent_mismatch` when the bytes are no frames; the decoder is of no use after that.
   */
  next(): Frame | undefined {
    if (this.#expected !== undefined || this.#length < this.#needed) return undefined;
    return this.#decode();
  }

  #seek(expected: Buffer): void {
    const bytes = this.#joined();
    const at = bytes.indexOf(expected);
    const from = at === -1 ? Math.max(0, bytes.length - expected.length + 1) : at + expected.length;
    this.#replace(bytes.subarray(from));
    if (at === -1) return;
    this.#expected = undefined;
    this.#needed = prefixBytes;
  }

  #joined(): Buffer {
    const [only] = this.#chunks;
    return this.#chunks.length === 1 && only !== undefined ? only : Buffer.concat(this.#chunks);
  }

  #replace(bytes: Buffer): void {
    this.#chunks = [bytes];
    this.#length = bytes.length;
  }

  #decode(): Frame | undefined {
    const bytes = this.#joined();
    this.#replace(bytes);
    const headerLength = bytes.readUInt32BE(0);
    const payloadLength = bytes.readUInt32BE(4);
    if (headerLength === 0 || headerLength > maxHeaderBytes || payloadLength > maxPayloadBytes) {
      throw brokenAgent(`a frame with a header of ${headerLength} and a payload of ${payloadLength} bytes`);
    }
    const bodyAt = prefixBytes + headerLength;
    const end = bodyAt + payloadLength;
    if (bytes.length < end) {
      this.#needed = end;
      return undefined;
    }
    this.#needed = prefixBytes;
    this.#replace(bytes.subarray(end));
    return { header: parseHeader(bytes.subarray(prefixBytes, bodyAt)), payload: bytes.subarray(bodyAt, end) };
  }
}

function parseHeader(text: Buffer): Record<string, unknown> {
  let header: unknown;
  try {
    header = parseJson(text.toString('utf8'), headerBounds);
  } catch (cause) {
    throw brokenAgent('a frame whose header is not JSON, or holds too much', cause);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw brokenAgent('a frame whose header is no object');
  }
  return header as Record<string, unknown>;
}
