import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { encodeFrame, FrameDecoder, magic, nonceBytes } from '../../src/guest/frames.js';
import { AgentClient } from '../../src/guest/index.js';
import { temporaryDirectory } from '../support/temporary.js';

type Header = Readonly<Record<string, unknown>>;

/** Who speaks in the place of an agent: it shakes hands, and then answers as a test says. */
export class HostilePeer {
  readonly #socket: Socket;
  readonly #credits = new Map<number, number>();
  #onCredit: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Whether the engine has hung up. */
  get isGone(): boolean {
    return this.#socket.destroyed;
  }

  /** Ends the connection behind what was sent. */
  hangUp(): void {
    this.#socket.end();
  }

  granted(stream: number, credit: number): void {
    this.#credits.set(stream, credit);
    this.#onCredit();
  }

  /** Sends bytes and waits until they are on their way, or the engine has hung up. */
  async send(bytes: Uint8Array): Promise<void> {
    if (this.isGone || this.#socket.write(bytes)) return;
    await new Promise<void>((resolve) => {
      this.#socket.once('drain', resolve).once('close', resolve);
    });
  }

  async frame(header: Header, payload?: Uint8Array): Promise<void> {
    await this.send(Buffer.concat(encodeFrame(header, payload)));
  }

  async ok(request: Header, answer: unknown): Promise<void> {
    await this.frame({ re: request.id, ok: answer });
  }

  /** Sends the same bytes on a stream for ever, as far as the engine grants it. */
  async stream(id: number, piece: Buffer): Promise<void> {
    for (let at = 0; !this.isGone; at += piece.length) {
      while (at + piece.length > (this.#credits.get(id) ?? 256 * 1024)) {
        await new Promise<void>((resolve) => {
          this.#onCredit = resolve;
          this.#socket.once('close', () => resolve());
        });
        if (this.isGone) return;
      }
      await this.frame({ s: id, at }, piece);
    }
  }
}

/** A client of a peer that answers each request by `answer`; both end with the test. */
export async function hostileClient(
  answer: (peer: HostilePeer, request: Header) => unknown,
  hello: unknown = { protocol: 1, agentVersion: '1.0.0', build: 'x', state: 'ready', run: null },
): Promise<AgentClient> {
  const socketPath = join(await temporaryDirectory(), 'agent.sock');
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    const peer = new HostilePeer(socket);
    const decoder = new FrameDecoder();
    let preamble = Buffer.alloc(0);
    let isOpen = false;
    socket.on('data', (bytes) => {
      if (!isOpen) {
        preamble = Buffer.concat([preamble, bytes]);
        if (preamble.length < magic.length + nonceBytes) return;
        isOpen = true;
        socket.write(preamble.subarray(0, magic.length + nonceBytes));
        decoder.take(preamble.subarray(magic.length + nonceBytes));
      } else decoder.take(bytes);
      for (let frame = decoder.next(); frame; frame = decoder.next()) {
        const { header } = frame;
        if (header.op === 'hello') peer.ok(header, hello).catch(() => undefined);
        else if (typeof header.credit === 'number') peer.granted(Number(header.s), header.credit);
        else if (typeof header.op === 'string' && header.op !== 'cancel') answer(peer, header);
      }
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
  });
  const client = await AgentClient.connect({ socketPath });
  onTestFinished(() => client.close());
  return client;
}
