import type { WebSocket } from 'ws';
import { Turns } from '../../base/turns.js';

/** One message of a client. */
export interface Message {
  readonly bytes: Buffer;
  readonly binary: boolean;
}

/** Bytes taken from a client ahead of the box; beyond it the client is not read until the box took some. */
const highWaterBytes = 256 * 1024;
/** What a message costs beside its bytes: small ones fill the inbox by their number. */
const messageBytes = 256;
/**
 * While a client is not read its going away cannot be seen; writing finds out. Short enough that whatever belongs to
 * the connection is freed within a second.
 */
const probeMs = 500;

function costOf({ bytes }: Message): number {
  return messageBytes + bytes.length;
}

/** The messages of a WebSocket in order, with back-pressure: what is not taken is not read from the network. */
export class Inbox {
  readonly #socket: WebSocket;
  readonly #turns = new Turns();
  #messages: Message[] = [];
  /** Messages at the beginning that were taken: moving up the others for each would cost as many steps as there are. */
  #taken = 0;
  #cost = 0;
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
    const waiting = this.#messages.slice(this.#taken);
    this.clear();
    for (const message of waiting) this.#push(message);
  }

  /** Forgets what was not taken yet. */
  clear(): void {
    this.#messages = [];
    this.#taken = 0;
    this.#cost = 0;
  }

  #push(message: Message): void {
    // No bytes for a stream are nothing to pass on.
    if (message.binary && message.bytes.length === 0) return;
    if (this.#urgent(message)) return;
    this.#messages.push(message);
    this.#cost += costOf(message);
    if (this.#cost > highWaterBytes && !this.#probe && !this.#closed) {
      this.#socket.pause();
      this.#probe = setInterval(() => this.#socket.ping(), probeMs);
    }
    this.#wake?.();
  }

  /** The next message, or undefined when the client is gone and all its messages were taken. */
  async next(): Promise<Message | undefined> {
    await this.#turns.step();
    while (this.#taken === this.#messages.length) {
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#messages[this.#taken];
    this.#taken += 1;
    if (message) this.#cost -= costOf(message);
    if (this.#taken === this.#messages.length) this.clear();
    if (this.#cost <= highWaterBytes && this.#probe) {
      clearInterval(this.#probe);
      this.#probe = undefined;
      this.#socket.resume();
    }
    return message;
  }
}
