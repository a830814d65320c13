import { CryoboxError } from '../../errors.js';
import { PAGE_BYTES, type RamBlock, returnMessage } from './format.js';

/** A request of the destination: `count` pages from `page` of block number `block`. */
export interface PageRequest {
  readonly block: number;
  readonly page: number;
  readonly count: number;
}

/** What the return path carries for a page server. */
export interface ReturnPathHandlers {
  onRequest(request: PageRequest): void;
  /** The destination has loaded everything (`ok`) or given up. */
  onShut(ok: boolean): void;
}

/** Longest message: a page request with a block name of 255 bytes. QEMU's own limit is 512. */
const maxMessageBytes = 512;
const headerBytes = 4;

/**
 * Takes apart what a destination sends back during postcopy: u16 type, u16 length, data.
 * @throws machine_failed on anything a QEMU 7.2 destination does not send.
 */
export class ReturnPathParser {
  readonly #handlers: ReturnPathHandlers;
  readonly #blocks: readonly RamBlock[];
  readonly #blockByName: Map<string, number>;
  #rest: Buffer = Buffer.alloc(0);
  #block = -1;

  constructor(blocks: readonly RamBlock[], handlers: ReturnPathHandlers) {
    this.#blocks = blocks;
    this.#handlers = handlers;
    this.#blockByName = new Map(blocks.map((block, index) => [block.name, index]));
  }

  /** Takes the next piece. */
  feed(piece: Buffer): void {
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, piece]) : piece;
    let at = 0;
    while (this.#rest.length - at >= headerBytes) {
      const length = this.#rest.readUInt16BE(at + 2);
      if (length > maxMessageBytes)
        throw wrong(`a message of at most ${maxMessageBytes} bytes, got ${length}`);
      if (this.#rest.length - at < headerBytes + length) break;
      const data = this.#rest.subarray(at + headerBytes, at + headerBytes + length);
      this.#message(this.#rest.readUInt16BE(at), data);
      at += headerBytes + length;
    }
    this.#rest = this.#rest.subarray(at);
  }

  #message(type: number, data: Buffer): void {
    if (type === returnMessage.pong) return;
    if (type === returnMessage.shut && data.length === 4) this.#handlers.onShut(data.readUInt32BE(0) === 0);
    else if (type === returnMessage.requestPages && data.length === 12) this.#request(data);
    else if (type === returnMessage.requestPagesOfBlock && data.length === 13 + (data[12] ?? 0)) {
      this.#block = this.#blockByName.get(data.toString('utf8', 13)) ?? -1;
      this.#request(data);
    } else throw wrong(`a page request, got type ${type} with ${data.length} bytes`);
  }

  #request(data: Buffer): void {
    const start = data.readUInt32BE(0) * 2 ** 32 + data.readUInt32BE(4);
    const length = data.readUInt32BE(8);
    const block = this.#blocks[this.#block];
    const whole = start % PAGE_BYTES === 0 && length > 0 && length % PAGE_BYTES === 0;
    if (!block || !whole || start + length > block.sizeBytes)
      throw wrong(`whole pages of a listed block, got ${length} bytes at ${start}`);
    this.#handlers.onRequest({ block: this.#block, page: start / PAGE_BYTES, count: length / PAGE_BYTES });
  }
}

function wrong(expected: string): CryoboxError {
  return new CryoboxError('machine_failed', `return path from QEMU: expected ${expected}`);
}
