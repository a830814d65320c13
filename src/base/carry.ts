import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** Both directions of a connection to a port of a box, as `Box.dial` gives them. */
interface Connection {
  readonly input: { write(chunk: Uint8Array): Promise<void>; end(): Promise<void> };
  readonly output: AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/**
 * A connection to a port of a box as a stream of Node, whose two directions end each on its own. Once the program in the
 * box takes no more, what is written is dropped: its answer is still wanted. When the box goes, the stream fails.
 */
export function portStream({ input, output, close }: Connection): Duplex {
  const bytes = output[Symbol.asyncIterator]();
  let takes = true;
  const give = (task: () => Promise<void>, done: () => void): void => {
    const given = takes ? task() : Promise.resolve();
    given.then(done, () => {
      takes = false;
      done();
    });
  };
  return new Duplex({
    allowHalfOpen: true,
    read() {
      bytes.next().then(
        ({ done, value }) => this.push(done ? null : value),
        (error: Error) => this.destroy(error),
      );
    },
    write: (chunk: Buffer, _encoding, done) => give(() => input.write(chunk), done),
    final: (done) => give(() => input.end(), done),
    destroy: (error, done) => {
      close().then(
        () => done(error),
        () => done(error),
      );
    },
  });
}

/** Ends a connection in a way that nobody takes for an end in order, where the kernel can do that. */
export function reset(socket: Duplex): void {
  try {
    if (socket instanceof Socket) socket.resetAndDestroy();
  } catch {
    // TLS and unix sockets know no reset: there, what is cut off shows by what is missing.
  }
  socket.destroy();
}

/** Two pipelines watch both ends, each in several ways: that is no leak of listeners. */
const listenersOfBoth = 32;

/**
 * Carries bytes between a socket and a port of a box until both directions have ended; `head` is what was read from the
 * socket before. Neither is read faster than the other takes. When the box goes, the socket is reset. Throws what ended it
 * out of turn; both are closed in any case.
 */
export async function carry(
  socket: Duplex,
  port: Duplex,
  head: Uint8Array = new Uint8Array(),
): Promise<void> {
  // Before the pipelines, which end the socket politely.
  port.once('error', () => reset(socket));
  socket.setMaxListeners(listenersOfBoth);
  port.setMaxListeners(listenersOfBoth);
  try {
    if (head.length > 0) port.write(head);
    await Promise.all([pipeline(socket, port), pipeline(port, socket)]);
  } finally {
    socket.destroy();
    port.destroy();
  }
}
