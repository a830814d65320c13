import type { WebSocket } from 'ws';

/** One message of a client. */
export interface Message {
  readonly bytes: Buffer;
  readonly binary: boolean;
}

/** Bytes taken from a client ahead of the box; beyond it the client is not read until the box took some. */
const highWaterBytes = 256 * 1024;
/**
 * While a client is not read its going away cannot be seen; writing finds out. Short enough that whatever belongs to
 * the connection is freed within a second.
 */
const probeMs = 500;

/** The messages of a WebSocket in order, with back-pressure: what is not taken is not read from the network. */
export class Inbox {
  readonly #socket: WebSocket;
  readonly #messages: Message[] = [];
  #bytes = 0;
  #probe: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;
  #closed = false;
  #urgent: (message: Message) => boolean = () => false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer, binary: boolean) => this.#push({ bytes: data, binary }));
    socket.on('close', () => {
      this.#closed = true;
      clearInterval(this.#probe);
      this.#wake?.();
    });
  }

  /** Shows each message to `take` when it comes; what it takes does not wait behind the others. */
  takeAtOnce(take: (message: Message) => boolean): void {
    this.#urgent = take;
    const waiting = this.#messages.splice(0);
    this.#bytes = 0;
    for (const message of waiting) this.#push(message);
  }

  /** Forgets what was not taken yet. */
  clear(): void {
    this.#messages.length = 0;
    this.#bytes = 0;
  }

  #push(message: Message): void {
    if (this.#urgent(message)) return;
    this.#messages.push(message);
    this.#bytes += message.bytes.length;
    if (this.#bytes > highWaterBytes && !this.#probe && !this.#closed) {
      this.#socket.pause();
      this.#probe = setInterval(() => this.#socket.ping(), probeMs);
    }
    this.#wake?.();
  }

  /** The next message, or undefined when the client is gone and all its messages were taken. */
  async next(): Promise<Message | undefined> {
    while (this.#messages.length === 0) {
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#messages.shift();
    this.#bytes -= message?.bytes.length ?? 0;
    if (this.#bytes <= highWaterBytes && this.#probe) {
      clearInterval(this.#probe);
      this.#probe = undefined;
      this.#socket.resume();
    }
    return message;
  }
}
