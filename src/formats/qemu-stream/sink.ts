import type { Socket } from 'node:net';
import { CryoboxError, messageOf } from '../../errors.js';

/**
 * Writes buffers into a socket one after the other. `write` returns when the kernel has taken the whole buffer, so
 * the caller may use it again, and a slow reader holds the caller back.
 */
export class SocketSink {
  readonly #socket: Socket;
  #failure: Error | undefined;
  #bytes = 0;
  /** Reject functions of the writes under way: a socket destroyed from outside calls no write callback. */
  readonly #pending = new Set<(error: Error) => void>();

  /** Takes over the error handling of a connected socket. */
  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the other side closed the connection')));
  }

  /** Bytes the kernel has taken. */
  get bytesWritten(): number {
    return this.#bytes;
  }

  /** @throws machine_failed when QEMU has gone or closed the stream. */
  async write(buffer: Buffer): Promise<void> {
    try {
      await this.#writeOnce(buffer);
    } catch (error) {
      throw new CryoboxError(
        'machine_failed',
        `QEMU stopped reading its migration stream after ${this.#bytes} bytes: ${messageOf(error)}`,
        { cause: error },
      );
    }
    this.#bytes += buffer.length;
  }

  #writeOnce(buffer: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure) {
        reject(this.#failure);
        return;
      }
      this.#pending.add(reject);
      this.#socket.write(buffer, (error) => {
        this.#pending.delete(reject);
        if (error) reject(error);
        else resolve();
      });
    });
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const reject of this.#pending) reject(this.#failure);
    this.#pending.clear();
  }
}
