import { WebSocket } from 'ws';
import { CryoboxError } from '../../errors.js';
import type { JsonObject } from '../../wire/json.js';
import type { ErrorWriter } from './errors.js';

/** Bytes on their way to one client; beyond it the box is not read, and in the end its program waits. */
const highWaterBytes = 256 * 1024;
/**
 * v1 clients drop a connection on which no frame came for 10 s after the upgrade (v1 contract, section 1.6), so the
 * first goes out at once; later ones keep what lies between from closing an idle connection.
 */
const pingMs = 15_000;
/** Code of a connection that ended without a close (RFC 6455, section 7.4.1). */
const brokenCode = 1006;

/** The sending half of a WebSocket, with back-pressure and pings. */
export class Outbox {
  readonly #socket: WebSocket;
  /** Writes the errors that are sent. */
  readonly errors: ErrorWriter;
  /** Resolves when the socket is closed, from either side, with the code of the close. */
  readonly closed: Promise<number>;

  constructor(socket: WebSocket, errors: ErrorWriter) {
    this.#socket = socket;
    this.errors = errors;
    const pings = setInterval(() => socket.ping(), pingMs);
    this.closed = new Promise((resolve) => {
      socket.once('close', (code) => {
        clearInterval(pings);
        resolve(code);
      });
      if (socket.readyState === WebSocket.CLOSED) resolve(brokenCode);
    });
    socket.ping();
  }

  /** Whether nothing can be sent any more. */
  get isClosed(): boolean {
    return this.#socket.readyState !== WebSocket.OPEN;
  }

  /** Sends a text message. */
  async text(message: JsonObject): Promise<void> {
    await this.#send(JSON.stringify(message), false);
  }

  /** Sends a binary message, `channel` before the bytes; resolves when there is room for another. */
  async binary(bytes: Uint8Array, channel?: number): Promise<void> {
    await this.#send(channel === undefined ? bytes : Buffer.concat([Uint8Array.of(channel), bytes]), true);
  }

  async #send(data: string | Uint8Array, binary: boolean): Promise<void> {
    const socket = this.#socket;
    if (socket.readyState !== WebSocket.OPEN)
      throw new CryoboxError('cancelled', 'The client closed the connection');
    if (socket.bufferedAmount <= highWaterBytes) {
      // A failure to send closes the socket, which is seen there.
      socket.send(data, { binary }, () => undefined);
      return;
    }
    await new Promise<void>((resolve, reject) => {
      socket.send(data, { binary }, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Closes in order. 1000: all was said; 1008: the client broke a rule; 1011: the server failed (RFC 6455, 7.4.1). */
  close(code: 1000 | 1008 | 1011, reason = ''): void {
    this.#socket.close(code, reason);
  }
}
