import { WebSocket } from 'ws';
import type { Bytes, StdinWriter } from '../api/index.js';
import { takeChunk } from '../base/byte-source.js';

/**
 * Bytes on their way to the command. Below what the server takes in before it stops reading the connection, so that
 * input the command does not read never keeps our acknowledgements of its output from arriving.
 */
const windowBytes = 128 * 1024;
const pieceBytes = 64 * 1024;

interface Piece {
  /** Offset of its first byte, by the server's count. */
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** The stdin of a command behind a server: keeps what the server has not taken, and sends it again after a reattach. */
export class RemoteStdin implements StdinWriter {
  #pieces: Piece[] = [];
  #end = 0;
  #sent = 0;
  #taken = 0;
  #ended = false;
  #failure: Error | undefined;
  #socket: WebSocket | undefined;
  readonly #waiting: (() => void)[] = [];

  /** Resolves when there is room for more; rejects when the command has ended, or cannot be reached any more. */
  async write(chunk: Bytes): Promise<void> {
    const bytes = takeChunk(chunk, 'the chunk');
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const piece = bytes.subarray(at, at + pieceBytes);
      // A copy: it may be sent again after the caller has changed its buffer.
      this.#pieces.push({ at: this.#end, bytes: Uint8Array.from(piece) });
      this.#end += piece.length;
      this.#flush();
      while (this.#end - this.#taken > windowBytes && !this.#failure) {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
      if (this.#failure) throw this.#failure;
    }
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#flush();
  }

  /** Goes on over a connection. `takenAt`: what the server has taken; undefined when it does not know of earlier bytes. */
  connected(socket: WebSocket, takenAt: number | undefined): void {
    this.#socket = socket;
    if (takenAt === undefined) {
      // Whether the command got them cannot be known: sending them again might give it them twice.
      const unsent = this.#pieces.filter(({ at }) => at >= this.#sent);
      this.#end = 0;
      this.#pieces = [];
      for (const { bytes } of unsent) {
        this.#pieces.push({ at: this.#end, bytes });
        this.#end += bytes.length;
      }
      this.#sent = 0;
      this.#taken = 0;
    } else {
      this.#sent = takenAt;
    }
    this.taken(takenAt ?? 0);
    this.#flush();
  }

  /** The server has taken everything before an offset. */
  taken(upTo: number): void {
    this.#taken = Math.max(this.#taken, upTo);
    this.#pieces = this.#pieces.filter(({ at, bytes }) => at + bytes.length > this.#taken);
    this.#wake();
  }

  /** No more can be written. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#pieces = [];
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #flush(): void {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return;
    for (const { at, bytes } of this.#pieces) {
      if (at + bytes.length <= this.#sent) continue;
      const rest = bytes.subarray(Math.max(0, this.#sent - at));
      socket.send(rest, { binary: true }, () => undefined);
      this.#sent = at + bytes.length;
    }
    if (this.#ended) socket.send(JSON.stringify({ type: 'stdin_eof' }), () => undefined);
  }
}
